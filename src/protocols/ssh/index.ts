export { createSsh } from './protocol.ts'
