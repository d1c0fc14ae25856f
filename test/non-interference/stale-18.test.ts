import { proveStaleness } from './stale.ts'

proveStaleness('18')
