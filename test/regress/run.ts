/** Runs the suite, or the files named, and prints what came of it. */
import { runSuite } from './suite.ts'

const only = process.argv.slice(2)
const report = await runSuite(only.length > 0 ? only : undefined, (line) => console.error(line))
console.log({ ...report, leftOut: report.leftOut.length, unknown: undefined })
for (const line of report.leftOut) console.log(line)
for (const [reason, count] of [...report.unknown].sort(([, a], [, b]) => b - a)) console.log(`${count} × ${reason}`)
process.exitCode = report.leftOut.length + report.crashes.length > 0 ? 1 : 0
