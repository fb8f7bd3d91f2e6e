import type { Device } from '../device/device.ts'

/** A device under a name that clients ask for. */
export interface Export {
  readonly name: string
  readonly device: Device
  /** Writes are refused whatever the device could do. */
  readonly readOnly: boolean
  readonly description: string
}

/** What a server asks for when a client names an export. */
export interface Exports {
  find(name: string): Export | undefined
  list(): readonly Export[]
}
