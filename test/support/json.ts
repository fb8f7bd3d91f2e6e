import type { SeededRandom } from './seeded.ts'

/** Values that nobody expects. */
const strange: readonly unknown[] = [
  ...[null, true, [], {}, '', '0', '-1', '1e9', ' 1', '9007199254740993', '18446744073709551615'],
  ...[0, -1, 0.5, 1e300, 2 ** 32, 2 ** 31, 'dynamic', 'crypt', 'raw', '__proto__', 'constructor'],
  ...['4294967296', '32768', '0x10', 'aes-cbc-essiv:sha256', 'null', 'a'.repeat(5000)],
  ...[['0', '0'], ['1'], [0], [[[[]]]], { type: 'crypt' }, Array.from({ length: 99 }, () => '0')],
]

/** Replaces, drops, copies or renames one property of some object in the value. */
export function mutateJson(root: unknown, random: SeededRandom): void {
  const objects: Record<string, unknown>[] = []
  const collect = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    objects.push(value as Record<string, unknown>)
    for (const each of Object.values(value)) collect(each)
  }
  collect(root)
  const object = objects[random.below(objects.length)]!
  const keys = Object.keys(object)
  const key = keys[random.below(keys.length)] ?? '0'
  const kind = random.below(5)
  if (kind === 0) Reflect.deleteProperty(object, key)
  else if (kind === 1) {
    const other = objects[random.below(objects.length)]
    object[String(random.below(40))] = structuredClone(other)
  } else if (kind === 2 && /^\d+$/.test(String(object[key]))) {
    const number = Number(object[key]) + random.below(3) - 1
    object[key] = typeof object[key] === 'string' ? String(number) : number * random.below(1e6)
  } else object[key] = structuredClone(strange[random.below(strange.length)])
}
