import { StorageError } from '../base/errors.ts'
import type { Protocol } from '../net/address.ts'
import type { Service, ServiceContext } from '../net/service.ts'

/** The server of a protocol. */
export function createService(protocol: Protocol, { limits }: ServiceContext): Service {
  throw new StorageError(
    'UNSUPPORTED',
    `the protocol ${protocol} (${limits.connections} connections) is not available yet`,
  )
}
