import { fuzz } from './random.ts'

fuzz('18')
