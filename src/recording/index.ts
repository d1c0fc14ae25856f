/**
 * The front page of the room: what other rooms, the doors and the commands call.
 *
 * @packageDocumentation
 */
export { createRecorder } from './recorder.ts'
export type { Recorder } from './recorder.ts'
export { loadHead, loadHeads } from './head.ts'
export type { InstanceHead } from './head.ts'
export { verify } from './verify.ts'
export type { ProblemReason, Report } from './report.ts'
export { list, partsOf } from './list.ts'
export { replay } from './replay.ts'
export type { ReplayEvent } from './replay.ts'
export { transcript } from './transcript.ts'
