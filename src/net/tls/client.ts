import net from 'node:net'
import tls from 'node:tls'
import { StorageError } from '../../base/errors.ts'
import type { Proof } from '../identity.ts'
import type { Credential } from './credential.ts'
import { reasonOf, type Material } from './material.ts'
import { proofOf } from './names.ts'
import { refused, type Secured, type TlsSide } from './side.ts'

/** How a client makes sure of the server. */
export interface Expected {
  /** The name or address that the server's certificate has to be for; null: any name. */
  readonly host: string | null
  /** False takes any certificate: what is sent is sealed, but perhaps for an impostor. */
  readonly verifyPeer: boolean
  /** The name of the protocol (ALPN) that the server has to agree to; null: nothing is asked. */
  readonly protocol: string | null
}

/** The side of a client. There is no way back to a connection without TLS. */
export class ClientTls implements TlsSide {
  private readonly credential: Credential
  private readonly expected: Expected

  constructor(credential: Credential, expected: Expected) {
    this.credential = credential
    this.expected = expected
  }

  begin(socket: net.Socket, done: (result: Secured | StorageError) => void): tls.TLSSocket {
    const { host, protocol } = this.expected
    const material = this.credential.inForce
    const user = userOf(this.credential, material)
    const upgraded = tls.connect({
      socket,
      secureContext: material.context,
      // What does not fit is found below, the same with a key and with certificates.
      rejectUnauthorized: false,
      checkServerIdentity: (_, certificate) =>
        user !== null || host === null ? undefined : tls.checkServerIdentity(host, certificate),
      ...(host === null || net.isIP(host) !== 0 ? {} : { servername: host }),
      ...(user === null ? {} : { pskCallback: () => user }),
      ...(protocol === null ? {} : { ALPNProtocols: [protocol] }),
    } as tls.ConnectionOptions)
    upgraded.once('secureConnect', () => {
      const proof = this.prove(upgraded, user)
      done(proof instanceof StorageError ? proof : { socket: upgraded, proof })
    })
    upgraded.once('error', (error) => done(refused(reasonOf(error), error)))
    upgraded.once('close', () => done(refused('the server closed during the handshake')))
    return upgraded
  }

  /** What the server has proven, or why that is not enough. */
  private prove(socket: tls.TLSSocket, user: User | null): Proof | StorageError {
    const { verifyPeer, protocol } = this.expected
    if (protocol !== null && socket.alpnProtocol !== protocol)
      return refused(`the server does not speak ${protocol}`)
    const certificate = socket.getPeerX509Certificate()
    if (user !== null) {
      // A server that does not know the key could show a certificate instead.
      const hasKey = certificate === undefined && socket.authorized
      return hasKey ? { psk: user.identity } : refused('the server has not used the key')
    }
    if (certificate === undefined) return refused('the server has shown no certificate')
    if (verifyPeer && !socket.authorized)
      return refused(`the certificate of the server: ${String(socket.authorizationError)}`)
    return proofOf(certificate) ?? refused('the certificate of the server cannot be read')
  }
}

interface User {
  readonly identity: string
  readonly psk: Buffer
}

/** The identity and the key that a client shows; null with certificates. */
function userOf({ source }: Credential, { keys }: Material): User | null {
  if (source.kind !== 'keys' || keys === null) return null
  const identity = source.user ?? (keys.size === 1 ? [...keys.keys()][0]! : null)
  const psk = identity === null ? undefined : keys.get(identity)
  if (psk !== undefined) return { identity: identity!, psk }
  const why = identity === null ? 'it has several: name one' : `"${identity}" is not one of them`
  throw new StorageError('UNAVAILABLE', `no key of ${source.keys.path} is chosen: ${why}`)
}
