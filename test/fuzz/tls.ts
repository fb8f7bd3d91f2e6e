import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { Rig } from '../nbd/rig.ts'
import { write } from '../support/io.ts'
import { makeKeys } from '../support/authority.ts'
import { mutated, mutatedBytes, noiseOf } from './mutate.ts'
import { NbdModel } from './nbd/model.ts'
import { check } from './nbd/reader.ts'
import { conversation } from './nbd/talk.ts'
import { names } from './served.ts'
import { inPieces, soon, talk } from './sockets.ts'
import { must, type Surface, type Trial } from './trial.ts'

const size = 64 * KiB
const flags = Buffer.from([0, 0, 0, 3])
const startTls = Buffer.from('49484156454f5054' + '00000005' + '00000000', 'hex')
/** Bytes of the greeting and of the answer to STARTTLS. */
const clearBytes = 18 + 20

/** An NBD server that insists on TLS, and the key of a client. */
class Running {
  readonly folder = mkdtempSync(join(tmpdir(), 'dst-fuzz-tls-'))
  readonly rig = new Rig()
  readonly key: Buffer
  /** The first bytes of a client under TLS. */
  readonly hello: Promise<Buffer>

  constructor() {
    const path = join(this.folder, 'keys.psk')
    this.key = makeKeys(path, 'alice').get('alice')!
    const keys = { path, needed: true }
    const credential = new Credential(
      { kind: 'keys', keys, user: null, minVersion: '1.2' },
      systemClock,
    )
    credential.read()
    this.rig.exports.tls = { mode: 'required', side: new ServerTls(credential) }
    this.hello = this.firstBytes()
  }

  async start(): Promise<void> {
    await this.rig.listen()
    await this.rig.addMemory(names.open, size)
    await this.rig.addMemory(names.readOnly, size, true)
  }

  /** Begins TLS over a connection; the stream within is not to be used before it is secure. */
  seal(socket: Duplex): tls.TLSSocket {
    const { key } = this
    return tls.connect({
      socket,
      ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305',
      pskCallback: () => ({ identity: 'alice', psk: key }),
      checkServerIdentity: () => undefined,
    })
  }

  private async firstBytes(): Promise<Buffer> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as net.AddressInfo
    const client = this.seal(net.connect(port, '127.0.0.1'))
    client.on('error', () => undefined)
    const bytes = await new Promise<Buffer>((resolve) => {
      server.once('connection', (socket) => {
        socket.on('error', () => undefined)
        socket.once('data', (first: Buffer) => {
          socket.destroy()
          resolve(first)
        })
      })
    })
    client.destroy()
    server.close()
    return bytes
  }

  connect(): net.Socket {
    const { unix } = this.rig
    const socket = net.connect({ path: unix.kind === 'unix' ? unix.path : '' })
    socket.on('error', () => undefined)
    return socket
  }

  /** Connects, and has STARTTLS granted. */
  async granted(): Promise<net.Socket> {
    const socket = this.connect()
    socket.write(Buffer.concat([flags, startTls]))
    let heard = 0
    const all = new Promise<void>((resolve) => {
      socket.on('data', (bytes: Buffer) => {
        heard += bytes.length
        if (heard >= clearBytes) resolve()
      })
    })
    await soon(all, 'STARTTLS is answered')
    socket.removeAllListeners('data')
    return socket
  }

  async stop(): Promise<void> {
    await this.rig.close()
    rmSync(this.folder, { recursive: true })
  }
}

/** What comes in clear: the handshake of TLS, or what is no such thing. */
async function inClear(trial: Trial, { hello, connect }: Clear): Promise<void> {
  const { dice } = trial
  const hostile = mutatedBytes({ bytes: await hello }, dice)
  const before = dice.chance(0.7) ? [flags, startTls] : [mutatedBytes({ bytes: startTls }, dice)]
  const more = dice.chance(0.5) ? noiseOf(dice, dice.below(3000)) : Buffer.alloc(0)
  const bytes = Buffer.concat([...before, hostile, more])
  const heard = await talk(trial, connect(), inPieces(trial, bytes))
  must(heard.toString('latin1', 0, 16) === 'NBDMAGICIHAVEOPT', 'the greeting is wrong')
}

interface Clear {
  readonly hello: Promise<Buffer>
  readonly connect: () => net.Socket
}

/** A client that has proven who it is, and goes on as one that is hostile. */
async function sealed(trial: Trial, running: Running): Promise<void> {
  const { dice } = trial
  const content = Buffer.from(noiseOf(dice, size))
  for (const { device } of running.rig.exports.list()) await write(device, 0, content)
  const below = await running.granted()
  const above = running.seal(below)
  const secure = new Promise((resolve) => above.once('secureConnect', resolve))
  const gone = new Promise((resolve) => above.once('close', resolve))
  above.on('error', () => undefined)
  await soon(Promise.race([secure, gone]), 'the handshake is done')
  const parts = mutated(conversation(dice, size).slice(1), dice, () => conversation(dice, size))
  const bytes = Buffer.concat(parts.map((part) => part.bytes))
  if (dice.chance(0.2)) setImmediate(() => below.write(noiseOf(dice, 1 + dice.below(300))))
  const heard = await talk(trial, above, inPieces(trial, bytes))
  // The device is smaller than the longest payload.
  const payloadMax = 32 * MiB
  const model = new NbdModel(Buffer.concat([flags, bytes]), { size, payloadMax, content })
  // The greeting came in clear.
  check(Buffer.concat([greeting, heard]), model, 'a part')
}

const greeting = Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1')

let running: Running | null = null

/** STARTTLS of the NBD server, over real sockets: TLS is Node's. */
export const tlsUpgrade: Surface = {
  name: 'tls',
  weight: 1,
  async run(trial: Trial): Promise<void> {
    if (running === null) {
      running = new Running()
      await running.start()
    }
    const { rig, hello } = running
    const one = running
    if (trial.dice.chance(0.7)) await inClear(trial, { hello, connect: () => one.connect() })
    else await sealed(trial, running)
    const isOver = async (): Promise<void> => {
      while (rig.service.clients().length > 0) await trial.turn()
    }
    await soon(isOver(), 'the client is gone')
    const { bytesInFlight } = rig.admission
    must(bytesInFlight === 0, `${bytesInFlight} bytes stay admitted for ever`)
    must(rig.slab.bytesHeld === 0, `${rig.slab.bytesHeld} bytes are held for ever`)
  },
  async close(): Promise<void> {
    await running?.stop()
    running = null
  },
}
