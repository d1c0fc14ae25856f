import { runBridge } from './bridge.ts'
export { runBridge as mcp }
