/** Starts what every suite shares. Services are added here as their suites come. */
export default async function setup(): Promise<() => Promise<void>> {
  return async () => undefined
}
