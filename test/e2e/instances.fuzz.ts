/** The whole of what several instances promise; `npm test` has a shorter run of the same. */
process.env['SALLYPORT_CALLS'] ??= '10000'
await import('./instances.test.ts')
