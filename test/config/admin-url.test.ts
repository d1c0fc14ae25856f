import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'

const parse = (text: string) => parseConfig(text, '/etc/sallyport/sallyport.yaml')

describe('admin_url', () => {
  it('is an origin', () => {
    expect(parse('admin_url: https://Approve.example:8443/\n').adminUrl).toBe('https://approve.example:8443')
    expect(parse('admin_url: "http://[::1]:7401"\n').adminUrl).toBe('http://[::1]:7401')
    expect(parse('log: {level: warn}\n').adminUrl).toBeUndefined()
  })

  it.each([
    'http://approve.example',
    'https://approve.example/path',
    'https://user@approve.example',
    'https://approve.example?x=1',
    'javascript:alert(1)',
    'approve.example',
  ])('is refused as %s', (url) => {
    expect(() => parse(`admin_url: "${url}"\n`)).toThrow(/admin_url.*must be an https origin/u)
  })
})
