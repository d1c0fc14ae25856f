/**
 * The front page of the room: what other rooms, the doors and the commands call.
 *
 * @packageDocumentation
 */
export { createRecorder } from './recorder.ts'
export type { Recorder, RecorderOptions } from './recorder.ts'
export type { Fsync, RecorderLog } from './context.ts'
export type { AdministrativeAct } from './journal.ts'
export type { Recovery } from './recover.ts'
export { loadHead } from './head.ts'
export type { InstanceHead } from './head.ts'
export { verify } from './verify.ts'
export type { VerifyOptions } from './verify.ts'
export type { FileReport, Problem, ProblemReason, Report } from './report.ts'
export { list, partsOf } from './list.ts'
export type { RecordingInfo } from './list.ts'
export { transcript } from './transcript.ts'
export type { TranscriptOptions } from './transcript.ts'
