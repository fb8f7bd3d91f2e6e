import { checkConfig } from '../../src/config/config.ts'
import { limitsOf } from '../../src/config/quantities.ts'

/** The limits of a target whose configuration sets none. */
export const defaultLimits = limitsOf(checkConfig({}, '/').config.limits)
