import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import type { EntranceTls } from '../../src/export/export.ts'
import { ClientTls } from '../../src/net/tls/client.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import type { TlsSide } from '../../src/net/tls/side.ts'
import { makeKeys } from './authority.ts'

/** Both sides of TLS with a key that they share. */
export function sharedKey(protocol: string | null): { entrance: EntranceTls; client: TlsSide } {
  const folder = mkdtempSync(join(tmpdir(), 'dst-key-'))
  const path = join(folder, 'keys.psk')
  makeKeys(path, 'alice')
  const keys = { path, needed: true }
  const credential = new Credential(
    { kind: 'keys', keys, user: 'alice', minVersion: '1.3' },
    systemClock,
  )
  credential.read()
  rmSync(folder, { recursive: true })
  return {
    entrance: { mode: 'required', side: new ServerTls(credential, protocol) },
    client: new ClientTls(credential, { host: null, verifyPeer: true, protocol }),
  }
}
