import type { Protocol } from '../net/address.ts'
import type { Service, ServiceContext } from '../export/service.ts'
import type { Claims } from '../export/claims.ts'
import { DstService } from '../wire/server.ts'
import { NbdService } from '../nbd/server.ts'

/** Makes the server of a protocol. */
export function createService(
  protocol: Protocol,
  context: ServiceContext,
  claims: Claims,
): Service {
  switch (protocol) {
    case 'nbd':
      return new NbdService({ ...context, guestsOf: (device) => claims.guestsOf(device) })
    case 'dst':
      return new DstService(context, claims)
  }
}
