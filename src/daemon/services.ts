import type { Protocol } from '../net/address.ts'
import type { Service, ServiceContext } from '../export/service.ts'
import { DstService } from '../wire/server.ts'
import { NbdService } from '../nbd/server.ts'

/** Makes the server of a protocol. */
export function createService(protocol: Protocol, context: ServiceContext): Service {
  switch (protocol) {
    case 'nbd':
      return new NbdService(context)
    case 'dst':
      return new DstService(context)
  }
}
