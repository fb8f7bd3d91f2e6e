import { createHmac, randomBytes } from 'node:crypto'
import type net from 'node:net'
import tls from 'node:tls'
import { StorageError } from '../../base/errors.ts'
import type { Credential, LetIn } from './credential.ts'
import { issuedBy, reasonOf, type Material } from './material.ts'
import { proofOf } from './names.ts'
import type { Turns } from './turns.ts'
import { refused, verifyErrorOf, type Secured, type TlsSide } from './side.ts'

/** Makes keys for identities that are not known, so that they fail as a wrong key does. */
const secret = randomBytes(32)

/** What a client has proven, and what identifies its certificate. */
type Proven = Pick<LetIn, 'proof' | 'issued'>

/**
 * What of a client's certificate a server asks: whom it has to let in without one, something above
 * has to ask who they are.
 */
export type Asked = 'needed' | 'wanted' | 'nothing'

/** The side of a server: every client has to prove who it is, unless less is asked. */
export class ServerTls implements TlsSide {
  readonly turns: Turns | null
  private readonly credential: Credential
  private readonly protocol: string | null
  private readonly asked: Asked

  /**
   * `protocol` is what both sides have to name in the handshake (ALPN); null: nothing is asked.
   * Without `turns` everybody begins at once.
   */
  constructor(
    credential: Credential,
    protocol: string | null = null,
    turns: Turns | null = null,
    asked: Asked = 'needed',
  ) {
    this.credential = credential
    this.protocol = protocol
    this.turns = turns
    this.asked = asked
  }

  begin(
    socket: net.Socket,
    done: (result: Secured | StorageError) => void,
    drop: (reason: StorageError) => void,
  ): tls.TLSSocket {
    const { credential, protocol, asked } = this
    const material = credential.inForce
    let identity: string | null = null
    const offer = (_: tls.TLSSocket, name: string): Buffer => {
      // Made for every name: the time that it takes would tell known ones.
      const decoy = createHmac('sha256', secret).update(name).digest()
      const key = material.keys?.get(name)
      identity = key === undefined ? null : name
      return key ?? decoy
    }
    const upgraded = new tls.TLSSocket(socket, {
      isServer: true,
      secureContext: material.context,
      requestCert: material.keys === null && asked !== 'nothing',
      rejectUnauthorized: material.keys === null && asked === 'needed',
      ...(material.keys === null ? {} : { pskCallback: offer }),
      ...(protocol === null ? {} : { ALPNProtocols: [protocol] }),
    })
    upgraded.once('secure', () => {
      // What was taken back meanwhile would be let in, and not be looked at again.
      const isInForce = credential.inForce === material
      const proven = isInForce
        ? this.prove(upgraded, material, identity)
        : refused('certificates or keys have changed during the handshake')
      if (proven instanceof StorageError) {
        const why = asked === 'wanted' ? { unproven: proven.message } : {}
        const isLetIn = isInForce && asked !== 'needed'
        done(isLetIn ? { socket: upgraded, proof: null, ...why } : proven)
      } else {
        const cut = (): void => drop(refused('the right of the peer was taken back'))
        socket.once('close', credential.admit({ ...proven, drop: cut }))
        done({ socket: upgraded, proof: proven.proof })
      }
    })
    upgraded.once('error', (error) => done(refused(reasonOf(error), error)))
    upgraded.once('close', () => done(refused('the client closed during the handshake')))
    return upgraded
  }

  /** What the client has proven, or why that is not enough. */
  private prove(
    socket: tls.TLSSocket,
    { keys }: Material,
    identity: string | null,
  ): Proven | StorageError {
    if (this.protocol !== null && socket.alpnProtocol !== this.protocol)
      return refused('the client has not named the protocol')
    const certificate = socket.getPeerX509Certificate()
    if (keys === null && certificate === undefined)
      return refused('the client has shown no certificate')
    const wrong = verifyErrorOf(socket)
    if (wrong !== null) return refused(`the certificate of the client: ${wrong.message}`)
    if (keys !== null) {
      const hasKey = certificate === undefined && identity !== null
      return hasKey ? { proof: { psk: identity }, issued: null } : refused('no known key was used')
    }
    const [proof, issued] = [proofOf(certificate!), issuedBy(certificate!)]
    return proof === null || issued === null
      ? refused('the certificate of the client cannot be read')
      : { proof, issued }
  }
}
