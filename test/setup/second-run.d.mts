import type { Report } from './report.ts'

export function mayRunAgain(report: Report): boolean
