import type http from 'node:http'
import net, { type Socket } from 'node:net'
import { systemClock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { formatAddress, parseAddress, whyNoAddress, type Address } from '../net/address.ts'
import { ClientTls } from '../net/tls/client.ts'
import { Credential } from '../net/tls/credential.ts'
import { secretOf } from '../net/tls/material.ts'
import { certificateFiles, gather } from '../net/tls/source.ts'
import { parseHttps } from '../net/uri.ts'
import { UsageError } from './exit.ts'

/** The way to the management of a target. */
export interface Route {
  readonly address: Address
  /** Null without TLS. */
  readonly tls: ClientTls | null
}

/** Milliseconds for connecting and the handshake of TLS. */
const connectTimeout = 20_000

/** Reads an address or a URL, and the files that it names. Throws a UsageError. */
export function routeTo(text: string): Route {
  if (text.startsWith('https:')) return sealedRoute(text)
  const place = text.replace(/^http:\/\/([^/]*)\/?$/, '$1')
  const address = parseAddress(place)
  if (address !== null) return { address, tls: null }
  const allowed = 'unix:PATH, HOST:PORT, https://HOST:PORT'
  throw new UsageError(`--management "${text}": ${whyNoAddress(place)}; allowed: ${allowed}`)
}

function sealedRoute(text: string): Route {
  const uri = parseHttps(text)
  if (typeof uri === 'string') throw new UsageError(`--management "${text}": ${uri}`)
  const { address, tls } = uri
  if (!tls.verifyPeer) {
    const why = 'who takes an impostor for the target gives it the commands and the token'
    throw new UsageError(`--management "${text}": tls-verify-peer=0 is not possible here: ${why}`)
  }
  const places = tls.certificates === null ? {} : { certificates: tls.certificates }
  const credential = new Credential(certificateFiles(places, 'client', '1.3'), systemClock)
  credential.read()
  if (credential.problem !== '') throw new UsageError(`--management: ${credential.problem}`)
  const host = tls.hostname ?? (address.kind === 'tcp' ? address.host : null)
  return { address, tls: new ClientTls(credential, { host, verifyPeer: true, protocol: null }) }
}

/**
 * The token in the file; '' where none is named, or none is asked for. Throws a UsageError for a
 * file that cannot be used, and where others could read the token on its way.
 */
export function tokenFor({ address, tls }: Route, path: string): string {
  if (path === '' || address.kind === 'unix') return ''
  if (tls === null) {
    const place = formatAddress(address)
    throw new UsageError(`--token-file: no token is sent to ${place} without https`)
  }
  const file = { path, needed: true }
  let text: string
  try {
    text = (secretOf(file, gather([file])) ?? '').trim()
  } catch (error) {
    if (error instanceof StorageError) throw new UsageError(`--token-file: ${error.message}`)
    throw error
  }
  if (/^[\x21-\x7e]{1,1024}$/.test(text)) return text
  throw new UsageError(`--token-file: ${path} is not a token alone`)
}

/** Where and how `http.request` connects: by itself, or with TLS that is there already. */
export async function connectionOf({ address, tls }: Route): Promise<http.RequestOptions> {
  if (address.kind === 'unix') return { socketPath: address.path }
  const { host, port } = address
  if (tls === null) return { host, port }
  const socket = await sealed(net.connect({ host, port }), tls)
  return { createConnection: () => socket }
}

/** The connection under TLS. Rejects with what went wrong. */
function sealed(below: Socket, tls: ClientTls): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void => {
      clearTimeout(timer)
      below.destroy()
      reject(cause)
    }
    const timer = setTimeout(() => {
      failed(new Error(`no connection in ${connectTimeout} ms`))
    }, connectTimeout)
    below.on('error', failed)
    below.once('connect', () => {
      tls.begin(below, (result) => {
        if (result instanceof StorageError) failed(result)
        else {
          clearTimeout(timer)
          resolve(result.socket.on('error', () => undefined))
        }
      })
    })
  })
}
