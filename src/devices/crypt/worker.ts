import { parentPort } from 'node:worker_threads'
import { openKeyslot, sealKeyslot, digestOf } from './keyslot.ts'
import type { KeyDigest, Keyslot } from './header.ts'

/** A thread that derives keys: it blocks for seconds, and ends with the process. */

/** One thing to derive. The bytes of a message are copies. */
export type Job =
  | {
      readonly kind: 'open'
      readonly passphrase: Uint8Array<ArrayBuffer>
      readonly keyslot: Keyslot
      readonly area: Uint8Array<ArrayBuffer>
      readonly digest: KeyDigest
    }
  | {
      readonly kind: 'seal'
      readonly passphrase: Uint8Array<ArrayBuffer>
      readonly keyslot: Keyslot
      readonly key: Uint8Array<ArrayBuffer>
      readonly noise: Uint8Array<ArrayBuffer>
    }
  | { readonly kind: 'digest'; readonly key: Uint8Array<ArrayBuffer>; readonly digest: KeyDigest }

/** What came of it: bytes, nothing for a wrong passphrase, or why it failed. */
export type Answer = { readonly bytes: Uint8Array | null } | { readonly failed: string }

async function carryOut(job: Job): Promise<Buffer | null> {
  switch (job.kind) {
    case 'open': {
      const { passphrase, area, keyslot, digest } = job
      return openKeyslot(asBuffer(passphrase), withSalt(keyslot), asBuffer(area), revived(digest))
    }
    case 'seal': {
      const { passphrase, key, noise, keyslot } = job
      return sealKeyslot(asBuffer(passphrase), withSalt(keyslot), asBuffer(key), asBuffer(noise))
    }
    case 'digest':
      return digestOf(asBuffer(job.key), revived(job.digest))
  }
}

function asBuffer({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length)
}

/** Buffers arrive as plain arrays of bytes. */
function withSalt(keyslot: Keyslot): Keyslot {
  return { ...keyslot, kdf: { ...keyslot.kdf, salt: asBuffer(keyslot.kdf.salt) } }
}

function revived(digest: KeyDigest): KeyDigest {
  return { ...digest, salt: asBuffer(digest.salt), value: asBuffer(digest.value) }
}

parentPort!.on('message', (job: Job) => {
  carryOut(job).then(
    (bytes) => {
      parentPort!.postMessage({ bytes } satisfies Answer)
    },
    (error: unknown) => {
      const failed = error instanceof Error ? error.message : 'it threw no error'
      parentPort!.postMessage({ failed } satisfies Answer)
    },
  )
})
