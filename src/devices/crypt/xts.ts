import { createCipheriv, createDecipheriv, timingSafeEqual } from 'node:crypto'
import { endianness } from 'node:os'
import { assert, StorageError } from '../../base/errors.ts'
import { KiB } from '../../base/size.ts'

/**
 * AES-XTS of whole sectors (IEEE 1619), as two calls of AES for many sectors at once: one for the
 * numbers of the sectors, one for the data. What is between, a shift and two XORs for every 16
 * bytes, is done here. Node's own XTS needs an object for each sector: at 4096 bytes that takes as
 * long, and at 512 four times as long.
 */

/** Bytes of one call: more of them only make the result leave the processor's cache. */
const stepBytes = 32 * KiB
/** Bytes of a block of AES, and how many words of 32 bits that are. */
const blockBytes = 16
const blockWords = blockBytes / 4

/** AES of one block after the other: a cipher of Node in the mode ECB, which keeps no state. */
interface Aes {
  update(bytes: Buffer): Buffer
}

/** Encrypts and decrypts the sectors of one device. Keeps the key inside of Node's ciphers. */
export class SectorCipher {
  private readonly sectorBytes: number
  /** Added to the number of every sector. */
  private readonly firstSector: number
  private readonly encrypter: Aes
  private readonly decrypter: Aes
  private readonly numberer: Aes
  private readonly numbers: Int32Array<ArrayBuffer>
  private readonly numberBytes: Buffer
  /** The tweaks of one call, for the second XOR. */
  private readonly tweaks = new Int32Array(stepBytes / 4)

  /** `key` has 32 or 64 bytes, and its halves differ; the caller may overwrite it afterwards. */
  constructor(key: Buffer, { sectorBytes, firstSector }: SectorOptions) {
    assert(key.length === 32 || key.length === 64, 'a key of XTS has two keys of AES')
    const half = key.length / 2
    const [first, second] = [key.subarray(0, half), key.subarray(half)]
    // Equal halves would make a block cancel its own tweak.
    if (timingSafeEqual(first, second)) throw new StorageError('INVALID', 'both halves are equal')
    if (endianness() !== 'LE')
      throw new StorageError('UNSUPPORTED', 'encryption needs a machine with little-endian words')
    this.sectorBytes = sectorBytes
    this.firstSector = firstSector
    const name = `aes-${half * 8}-ecb`
    this.encrypter = createCipheriv(name, first, null).setAutoPadding(false)
    this.decrypter = createDecipheriv(name, first, null).setAutoPadding(false)
    this.numberer = createCipheriv(name, second, null).setAutoPadding(false)
    this.numbers = new Int32Array((stepBytes / sectorBytes) * blockWords)
    this.numberBytes = Buffer.from(this.numbers.buffer)
  }

  /** Encrypts whole sectors in place; the first byte of them is `offset` in the data. */
  encrypt(bytes: Buffer, offset: number): void {
    this.run(this.encrypter, bytes, offset)
  }

  /** Decrypts whole sectors in place. */
  decrypt(bytes: Buffer, offset: number): void {
    this.run(this.decrypter, bytes, offset)
  }

  private run(cipher: Aes, bytes: Buffer, offset: number): void {
    const { length } = bytes
    assert(length % this.sectorBytes === 0, 'sectors are encrypted whole')
    const words = wordsOf(bytes)
    const start = bytes.byteOffset / 4
    for (let from = 0; from < length; from += stepBytes) {
      const to = Math.min(length, from + stepBytes)
      this.tweak(words, start + from / 4, to - from, offset + from)
      const out = cipher.update(length <= stepBytes ? bytes : bytes.subarray(from, to))
      this.finish(words, start + from / 4, out)
    }
  }

  /** Makes the tweaks of the sectors and puts them on the words. */
  private tweak(words: Int32Array, at: number, length: number, offset: number): void {
    const { tweaks, sectorBytes } = this
    const encrypted = this.encryptedNumbers(length / sectorBytes, offset)
    let kept = 0
    for (let first = 0; first < encrypted.length; first += blockWords) {
      let a = encrypted[first]!
      let b = encrypted[first + 1]!
      let c = encrypted[first + 2]!
      let d = encrypted[first + 3]!
      for (const end = at + sectorBytes / 4; at < end; at += blockWords, kept += blockWords) {
        words[at]! ^= a
        words[at + 1]! ^= b
        words[at + 2]! ^= c
        words[at + 3]! ^= d
        tweaks[kept] = a
        tweaks[kept + 1] = b
        tweaks[kept + 2] = c
        tweaks[kept + 3] = d
        // The next tweak is twice this one in GF(2^128).
        const carry = (d >> 31) & 0x87
        d = (d << 1) | (c >>> 31)
        c = (c << 1) | (b >>> 31)
        b = (b << 1) | (a >>> 31)
        a = (a << 1) ^ carry
      }
    }
  }

  private encryptedNumbers(sectors: number, offset: number): Int32Array {
    const { numbers, sectorBytes } = this
    // Sectors are counted in 512 bytes, however long they are.
    let number = this.firstSector + offset / 512
    for (let sector = 0; sector < sectors; sector++, number += sectorBytes / 512) {
      numbers[sector * blockWords] = number | 0
      numbers[sector * blockWords + 1] = Math.floor(number / 0x1_0000_0000)
    }
    return wordsOfOwn(this.numberer.update(this.numberBytes.subarray(0, sectors * blockBytes)))
  }

  private finish(words: Int32Array, at: number, out: Buffer): void {
    const { tweaks } = this
    const from = wordsOfOwn(out)
    for (let word = 0; word < from.length; word++) words[at + word] = from[word]! ^ tweaks[word]!
  }
}

/** How the sectors of a device are numbered. */
interface SectorOptions {
  readonly sectorBytes: number
  readonly firstSector: number
}

/** The words of each arena: blocks of the slab are many, their arenas few. */
const arenas = new WeakMap<ArrayBufferLike, Int32Array>()

function wordsOf({ buffer, byteOffset }: Buffer): Int32Array {
  assert(byteOffset % 4 === 0, 'sectors begin at a word')
  let words = arenas.get(buffer)
  if (words === undefined) {
    words = new Int32Array(buffer, 0, Math.floor(buffer.byteLength / 4))
    arenas.set(buffer, words)
  }
  return words
}

/** The words of bytes that a cipher has just made. */
function wordsOfOwn({ buffer, byteOffset, length }: Buffer): Int32Array {
  return new Int32Array(buffer, byteOffset, length / 4)
}
