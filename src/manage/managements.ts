import { systemClock } from '../base/clock.ts'
import { formatAddress, parseAddress } from '../net/address.ts'
import type * as config from '../config/config.types.ts'
import { asksForCertificates, managementsOf } from '../config/management.ts'
import { accessOf } from '../config/quantities.ts'
import type { Management, ManagementContext, Target } from '../daemon/target.ts'
import { Callers } from './callers.ts'
import { TargetManager } from './commands.ts'
import { Gate } from './gate.ts'
import { ManagementServer } from './management.ts'

/** All places where a target is managed, each with a server of its own. */
export class Managements implements Management {
  private readonly context: ManagementContext
  private readonly manager: TargetManager
  private readonly servers: ManagementServer[] = []

  /** `program` is the name and version that `status` shows. */
  constructor(context: ManagementContext, program: string) {
    this.context = context
    this.manager = new TargetManager(context.target, program, context.commands)
  }

  async listen(place: config.Management): Promise<string> {
    const { target, refusals, descriptors } = this.context
    const { credentials } = place
    const asked = asksForCertificates({ ...place }) ? 'wanted' : 'nothing'
    const tls =
      credentials === undefined ? undefined : target.credentials.managementTls(credentials, asked)
    const callers = new Callers(descriptors, managementsOf(target.config).length)
    const gate = gateOf(place, target)
    const server = new ManagementServer(this.manager, refusals, { tls, gate, callers })
    this.servers.push(server)
    const address = await server.listen(parseAddress(place.address)!, accessOf(place))
    return `${tls === undefined ? '' : 'https://'}${formatAddress(address)}`
  }

  close(): void {
    for (const server of this.servers) server.close()
  }
}

/** The gate of a place; none where all may do everything who reach it. */
function gateOf(place: config.Management, { credentials }: Target): Gate | undefined {
  const { allow, tokens } = place
  if (allow === undefined && tokens === undefined) return undefined
  const file = tokens === undefined ? null : credentials.tokensIn(tokens)
  return new Gate(allow ?? [], file, systemClock)
}
