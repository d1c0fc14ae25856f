import type { MaskedFile } from './masked.ts'

/** What a reader of the table wants to know of each reason, in the order in which reasons are looked for. */
const CONTRACTS: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/^sql\.mask\.statement/u, 'R13'],
  [/^sql\.mask\.function/u, 'C3'],
  [/^sql\.mask\.catalog/u, 'C10'],
  [/^sql\.unknown/u, 'C1'],
  [/^current transaction is aborted/u, 'after'],
]

/** A page that lists every file of the suite with what came of its statements, and by which contract. */
export function maskedTable(files: readonly MaskedFile[], reasons: Readonly<Record<string, string>>): string {
  const rows = files.map(({ name, alike, withheld, refused, apart }) => {
    const counts = new Map<string, number>()
    for (const [told, count] of refused) {
      const contract = CONTRACTS.find(([pattern]) => pattern.test(told))?.[1] ?? 'other'
      counts.set(contract, (counts.get(contract) ?? 0) + count)
    }
    const cells = [...CONTRACTS.map(([, contract]) => contract), 'other'].map((contract) => counts.get(contract) ?? '')
    const why = apart.length === 0 ? '' : `${apart.length}: ${reasons[name] ?? 'not explained'}`
    return `| ${[name, alike, withheld === 0 ? '' : withheld, ...cells, why].join(' | ')} |`
  })
  const sum = (of: (file: MaskedFile) => number): number => files.reduce((total, file) => total + of(file), 0)
  const refusals = sum(({ refused }) => [...refused.values()].reduce((total, count) => total + count, 0))
  return `# PostgreSQL's regression suite on a target with masks

Made by \`npm run regress -- --masks --write\` (PostgreSQL 15): each file of the suite goes through the PostgreSQL door under a
policy that allows everything and masks a column no file reads. What is let through is also sent to a server of its own, and
the answers are compared: ${sum(({ alike }) => alike)} statements were answered alike, ${sum(({ withheld }) => withheld)} alike but for the words of an error or
a notice, ${refusals} were refused, and ${sum(({ apart }) => apart.length)} answered otherwise, as the last column explains. Definitions that are
refused are made on both servers by their owner, so that what comes after finds them.

| column | why |
| --- | --- |
| words | C10: errors and notices of a target with masks lose their own words; the SQLSTATE stays. |
| R13 | Definitions, grants, settings and files are for whoever runs the database. |
| C3 | A function, cast or operator made by users could read what is masked; \`trusted_functions\` of the target names those that do not. |
| C10 | A catalog or a function of PostgreSQL shows what others do or what columns hold. |
| C1 | Not understood, mostly because what it names is not there (the server would have refused it, too) or is temporary. |
| after | Refused by the gateway because the transaction had failed. |
| other | The rest, each refused with its reason. |

| file | alike | words | R13 | C3 | C10 | C1 | after | other | otherwise |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`
}
