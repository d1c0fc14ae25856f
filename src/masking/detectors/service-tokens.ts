import { type Detector, eachMatch, HIDDEN, holdsAny } from './detector.ts'

/** GitHub tokens by prefix ("Behind GitHub's new authentication token formats", 2021). */
export const githubToken: Detector = {
  kind: 'github_token',
  summary: 'GitHub tokens (`ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_`, `github_pat_`).',
  trigger: holdsAny('ghp_', 'gho_', 'ghu_', 'ghs_', 'ghr_', 'github_pat_'),
  find: eachMatch(/gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}/g),
  partial: (value) => value.slice(0, value.startsWith('github_pat_') ? 11 : 4) + HIDDEN.repeat(8),
}

/** Slack tokens and incoming webhook addresses. */
export const slackToken: Detector = {
  kind: 'slack_token',
  summary: 'Slack tokens (`xoxb-`, `xoxp-`, `xapp-` …) and webhook addresses.',
  trigger: holdsAny('xox', 'xapp-', 'hooks.slack.com'),
  find: eachMatch(
    /xox[a-z]-[A-Za-z0-9-]{10,}|xoxe\.xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{15,}|hooks\.slack\.com\/[a-z]{1,20}\/[A-Za-z0-9/_-]{20,}/g,
  ),
  partial: (value) =>
    value.startsWith('hooks') ? `hooks.slack.com/${HIDDEN.repeat(8)}` : value.slice(0, 5) + HIDDEN.repeat(8),
}

/** Stripe secret and restricted keys and webhook secrets. Publishable keys (`pk_`) are public. */
export const stripeKey: Detector = {
  kind: 'stripe_key',
  summary: 'Stripe secret and restricted keys (`sk_live_`, `rk_test_` …) and webhook secrets (`whsec_`).',
  trigger: holdsAny('sk_', 'rk_', 'whsec_'),
  find: eachMatch(/[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}/g),
  partial: (value) => value.slice(0, value.indexOf('_', 3) + 1 || 3) + HIDDEN.repeat(8),
}
