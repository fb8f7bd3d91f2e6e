/**
 * The part of hash-wasm that is used. Declared here so that the project builds, and everything but
 * Argon2 works, where the package is not installed yet.
 */
declare module 'hash-wasm' {
  interface Argon2Options {
    readonly password: Uint8Array
    readonly salt: Uint8Array
    /** Passes over the memory. */
    readonly iterations: number
    readonly parallelism: number
    /** KiB. */
    readonly memorySize: number
    /** Bytes. */
    readonly hashLength: number
    readonly outputType: 'binary'
  }
  /** Resolves to `hashLength` bytes; blocks the thread for as long as that takes. */
  export function argon2i(options: Argon2Options): Promise<Uint8Array<ArrayBuffer>>
  /** The same by Argon2id. */
  export function argon2id(options: Argon2Options): Promise<Uint8Array<ArrayBuffer>>
}
