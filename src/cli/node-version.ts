// Imported first, for its effect: what is loaded after it may need a Node that can run it.
const NEEDED = [20, 19] as const
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1])) {
  process.stderr.write(
    `sallyport: this is Node ${process.versions.node}, and Sallyport needs ${NEEDED.join('.')} or newer; install it from https://nodejs.org\n`,
  )
  process.exit(1)
}
