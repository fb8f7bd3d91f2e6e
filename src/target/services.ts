import type { StateStore } from '../base/store.ts'
import type { Protocol } from '../net/address.ts'
import type { Service, ServiceContext } from '../net/service.ts'
import { NbdService } from '../nbd/server.ts'
import { DstService } from '../wire/server.ts'

/** The server of a protocol. `store` is where it keeps what must survive a restart. */
export function createService(
  protocol: Protocol,
  context: ServiceContext,
  store: StateStore,
): Service {
  switch (protocol) {
    case 'nbd':
      return new NbdService(context)
    case 'dst':
      return new DstService(context, store)
  }
}
