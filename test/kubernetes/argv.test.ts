/** What each command line of the tool means, and what is said of those that mean nothing. */
import { describe, expect, it } from 'vitest'
import { readArgv } from '../../src/protocols/kubernetes/argv.ts'

const words = (line: string): string[] => line.split(' ').map((word) => word.replaceAll('␠', ' '))

describe('a command line', () => {
  it.each<readonly [string, object]>([
    ['get pods', { verb: 'get', resource: 'pods' }],
    [
      'kubectl get pod web-1 -n web -o yaml',
      { verb: 'get', resource: 'pod', name: 'web-1', namespace: 'web', output: 'yaml' },
    ],
    [
      'get pods -A -l app=web --limit 5',
      { verb: 'get', resource: 'pods', all_namespaces: true, selector: 'app=web', limit: 5 },
    ],
    [
      'get pods --all-namespaces=true --field-selector=status.phase=Running',
      { verb: 'get', resource: 'pods', all_namespaces: true, field_selector: 'status.phase=Running' },
    ],
    ['get deploy web --subresource scale', { verb: 'get', resource: 'deploy', name: 'web', subresource: 'scale' }],
    ['get pod/web-1', { verb: 'get', resource: 'pod/web-1' }],
    ['describe node n1', { verb: 'describe', resource: 'node', name: 'n1' }],
    ['events --limit=3', { verb: 'events', limit: 3 }],
    [
      'logs web-1 -p --timestamps --since 10m',
      { verb: 'logs', name: 'web-1', previous: true, timestamps: true, since_seconds: 600 },
    ],
    ['logs deploy/web --since=2h', { verb: 'logs', resource: 'deploy/web', since_seconds: 7200 }],
    ['logs web-1 --since=45s', { verb: 'logs', name: 'web-1', since_seconds: 45 }],
    ['top pods', { verb: 'top', resource: 'pods' }],
    [
      'patch deploy web -p {"a":1} --type=merge',
      { verb: 'patch', resource: 'deploy', name: 'web', patch: '{"a":1}', patch_type: 'merge' },
    ],
    [
      'patch deploy web --patch [] --type json --dry-run=server',
      { verb: 'patch', resource: 'deploy', name: 'web', patch: '[]', patch_type: 'json', dry_run: true },
    ],
    [
      'label pod web-1 a=b c- d==e --overwrite',
      { verb: 'label', resource: 'pod', name: 'web-1', labels: { a: 'b', c: null, d: '=e' } },
    ],
    [
      'annotate pod/web-1 note=two␠words',
      { verb: 'annotate', resource: 'pod/web-1', annotations: { note: 'two words' } },
    ],
    ['scale deploy web --replicas=3', { verb: 'scale', resource: 'deploy', name: 'web', replicas: 3 }],
    [
      'delete pod web-1 --grace-period=0 --cascade=orphan',
      { verb: 'delete', resource: 'pod', name: 'web-1', grace_seconds: 0, propagation: 'Orphan' },
    ],
    ['delete job j --cascade foreground', { verb: 'delete', resource: 'job', name: 'j', propagation: 'Foreground' }],
    ['cordon n1', { verb: 'cordon', name: 'n1' }],
    [
      'drain n1 --ignore-daemonsets --delete-emptydir-data',
      { verb: 'drain', name: 'n1', ignore_daemonsets: true, delete_emptydir_data: true },
    ],
    [
      'exec web-1 -c app -- sh -c date',
      { verb: 'exec', name: 'web-1', container: 'app', command: ['sh', '-c', 'date'] },
    ],
    ['exec web-1 -- cat -- -x', { verb: 'exec', name: 'web-1', command: ['cat', '--', '-x'] }],
    ['rollout status deploy web', { verb: 'rollout_status', resource: 'deploy', name: 'web' }],
    ['rollout undo deploy web --to-revision=2', { verb: 'rollout_undo', resource: 'deploy', name: 'web', revision: 2 }],
    ['auth can-i create pods -n web', { verb: 'can_i', ask_verb: 'create', resource: 'pods', namespace: 'web' }],
  ])('%s', (line, fields) => {
    expect(readArgv(words(line))).toEqual({ kind: 'tool', ...fields })
  })

  it.each([
    ['-n web get pods', 'starts with the verb'],
    ['apply -f x.yaml', 'give verb and manifest'],
    ['create deployment web', 'give verb and manifest'],
    ['replace x', 'give verb and manifest'],
    ['edit deploy web', 'This verb is none of'],
    ['constructor', 'This verb is none of'],
    ['rollout pause deploy web', 'This verb is none of'],
    ['get pods -o wide', 'json, yaml, table or name'],
    ['get pods --limit many', '--limit takes a number'],
    ['get pods --limit -1', '--limit takes a number'],
    ['get pods --limit', '--limit needs a value'],
    ['get pods --all-namespaces=false', '--all-namespaces takes no value'],
    ['get pods -n a --namespace b', '--namespace is given twice'],
    ['get pods a b', 'Name one object'],
    ['get pods -- x', '-- belongs to exec'],
    ['get pods -', 'Nothing is read from standard input'],
    ['get pods -nweb', 'Write each flag by itself'],
    ['get pods ---x', 'Write each flag by itself'],
    ['get pods -w', '-w is not known for this verb'],
    ['get pods --replicas=3', '--replicas is not known for this verb'],
    ['get pods --server https://x', '--server is not for callers'],
    ['get pods -s https://x', '-s is not for callers'],
    ['get -f x.yaml', '-f is not for callers'],
    ['get --raw /api', '--raw is not for callers'],
    ['get pods --as admin', '--as is not for callers'],
    ['logs a b', 'Name one object.'],
    ['logs web-1 --since 10', '--since takes a time'],
    ['logs web-1 --since 1d', '--since takes a time'],
    ['patch deploy web --type apply', '--type is strategic, merge or json'],
    ['label pod web-1', 'at least one key=value'],
    ['label pod web-1 a=b c', 'Write key=value'],
    ['label pod web-1 a=b a-', 'given twice'],
    ['label a=b', 'at least one key=value'],
    ['label pod web-1 extra a=b', 'Name one object'],
    ['scale deploy web --dry-run=client', '--dry-run=server is the only form'],
    ['scale deploy web --dry-run', '--dry-run needs a value'],
    ['delete job j --cascade=true', '--cascade is background, foreground or orphan'],
    ['delete pod a b', 'Name one object'],
    ['exec web-1 date', 'Write -- before the command'],
    ['exec web-1 --', 'Give the command after --'],
    ['exec -it web-1 -- sh', 'Write each flag by itself'],
    ['exec web-1 -t -- sh', '-t is not known for this verb'],
  ])('%s: refused', (line, sentence) => {
    const read = (): unknown => readArgv(words(line))
    expect(read).toThrow(expect.objectContaining({ code: 'ERR_INVALID_INPUT' }))
    expect(read).toThrow(sentence)
  })
})
