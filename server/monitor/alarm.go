package monitor

import (
	"fmt"
	"time"
)

// Code is the stable name of what a monitor found.
type Code string

// What is wrong with the log itself. A monitor does not go on after one of these, and finds it again in every pass.
const (
	// Unsigned: a checkpoint that no pinned key of the log signed.
	Unsigned Code = "checkpoint_unsigned"
	// Unwitnessed: a checkpoint that too few of the pinned witnesses cosigned.
	Unwitnessed Code = "checkpoint_unwitnessed"
	// Rollback: the log has fewer leaves than it had.
	Rollback Code = "rollback"
	// Fork: the log's key signed two trees of which none begins with the other. Both notes are kept as proof.
	Fork Code = "fork"
	// TilesWrong: tiles that are not those of the signed tree.
	TilesWrong Code = "tiles_wrong"
	// EntriesWrong: entries that are not those of the signed tree.
	EntriesWrong Code = "entries_wrong"
)

// What is wrong in the log.
const (
	// LeafUnreadable: an entry that is no leaf.
	LeafUnreadable Code = "leaf_unreadable"
	// ChainGap: leaves are missing from a pull request's chain.
	ChainGap Code = "chain_gap"
	// ChainFork: two histories of one pull request.
	ChainFork Code = "chain_fork"
	// LateLeaf: a leaf that says it is older than a checkpoint that did not have it.
	LateLeaf Code = "late_leaf"
	// TimeBackwards: a leaf that says it is older than one before it.
	TimeBackwards Code = "time_backwards"
	// TimeAhead: a leaf that says it is of the future.
	TimeAhead Code = "time_ahead"
	// UnfoundedYes: the merge check was answered "yes" where the chain has no verdict for it, or under no rule where there was one.
	UnfoundedYes Code = "unfounded_yes"
	// UnfoundedVerdict: a verdict that nothing in the chain can lead to.
	UnfoundedVerdict Code = "unfounded_verdict"
	// UnfoundedDecision: a decision about a request that is not open, or about what had been merged.
	UnfoundedDecision Code = "unfounded_decision"
	// RequestUnclosed: a request that was opened while another one of its pull request was open.
	RequestUnclosed Code = "request_unclosed"
	// UnfoundedGreen: a SUCCESSFUL status where the chain never had a verdict for it.
	UnfoundedGreen Code = "unfounded_green"
	// Violation: something was merged that was not approved.
	Violation Code = "violation"
	// VersionGap: a version of a roster, policy or protection that does not follow the one before, or comes twice.
	VersionGap Code = "version_gap"
	// GenesisTwice: a workspace that begins more than once.
	GenesisTwice Code = "genesis_twice"
	// GenesisMissing: a workspace's leaf before its genesis.
	GenesisMissing Code = "genesis_missing"
	// UnknownKey: a key under a person's name, or for their account, that this person did not list as their own.
	UnknownKey Code = "unknown_key"
	// SecondLogIn: a key that was enrolled after a log-in by somebody who had enrolled one before.
	SecondLogIn Code = "second_login"
)

// What is wrong with a workspace's openings.
const (
	// OpeningsWrong: openings that do not open what the log commits to.
	OpeningsWrong Code = "openings_wrong"
	// OpeningsWithheld: openings that the server does not give although it gives the log.
	OpeningsWithheld Code = "openings_withheld"
	// RosterWrong: a roster version that does not replay, or that the log does not have.
	RosterWrong Code = "roster_wrong"
	// RosterUnproved: a roster version whose proof does not prove it.
	RosterUnproved Code = "roster_unproved"
	// RevokedVoucher: a roster version that rests on a key which the log had revoked before.
	RevokedVoucher Code = "revoked_voucher"
	// KeyUnlogged: a key in the roster whose enrolment the log does not have.
	KeyUnlogged Code = "key_unlogged"
	// AccountTwice: a key of an account that has another person already.
	AccountTwice Code = "account_twice"
	// OwnerUntold: a key that counts, and of which the openings do not tell for whose account.
	OwnerUntold Code = "owner_untold"
	// RevocationUnfollowed: a key of which the log says that it is revoked, and which the roster goes on counting.
	RevocationUnfollowed Code = "revocation_unfollowed"
	// RuleUnsigned: a policy, roster or protection that changed without the signatures that the protection in force demands, or a
	// roster by some that had expired.
	RuleUnsigned Code = "rule_unsigned"
	// RuleCompromised: a policy or protection in force that somebody agreed to with a key that was in other hands.
	RuleCompromised Code = "rule_compromised"
	// PolicyWrong: a policy that is not the one that the log names.
	PolicyWrong Code = "policy_wrong"
	// PolicyUnreadable: a policy that is the one that the log names, and of which no verifier of this version can tell what it gates.
	PolicyUnreadable Code = "policy_unreadable"
)

// What another auditor's checkpoints show.
const (
	// Hidden: somebody was shown more of the log than this server shows.
	Hidden Code = "hidden"
)

// What is worth knowing and no alarm.
const (
	// LogInKey: a key that is its person's by the word of the operator only: it was enrolled after a log-in.
	LogInKey Code = "login_key"
	// Unprotected: from here on the workspace's rules can be changed without signatures.
	Unprotected Code = "unprotected"
	// LateGreen: a SUCCESSFUL status of a request that had ended; it was owed before.
	LateGreen Code = "late_green"
	// LateMerge: a merge of what had been approved and cancelled, as when Bitbucket did not show the pull request for a while.
	LateMerge Code = "late_merge"
	// HurriedYes: the merge check was answered "yes", and a verdict of REJECTED followed that no decision explains, but perhaps the
	// report of a stolen key. With the workspace's openings it is an alarm where there is none.
	HurriedYes Code = "hurried_yes"
	// UntoldBranch: the merge check was answered "yes" under no rule, for a branch that nothing names, or of a pull request that the
	// openings leave out.
	UntoldBranch Code = "untold_branch"
	// KeyRevokedByOperator: a key that was revoked without a signature.
	KeyRevokedByOperator Code = "key_revoked_by_operator"
	// RevocationUntold: what somebody signed to revoke a key, of which the log has the leaf and the roster nothing. The key counts no
	// more; but since when it was in other hands, if that was said, nobody learns from the roster.
	RevocationUntold Code = "revocation_untold"
	// RevokedElsewhere: a key that the roster counts, and that somebody revoked in another workspace by the word of the leaf. So they may
	// in theirs; but whether it was its own person, and holds here, the leaf does not show.
	RevokedElsewhere Code = "revoked_elsewhere"
)

// Finding is something that a monitor found.
type Finding struct {
	Code Code `json:"code"`
	// Notice is true where it is no alarm.
	Notice bool `json:"notice,omitempty"`
	// Subject is what it is about; together with the code it names the finding.
	Subject string `json:"subject"`
	// Detail says in a sentence what was found.
	Detail string `json:"detail"`
	// Leaf is the index of the leaf, from 0; nil where it is not about one.
	Leaf *int64 `json:"leaf,omitempty"`
	// Proof is the folder in the state that holds the proof; empty without one.
	Proof string `json:"proof,omitempty"`
	// Time is when it was found, by the monitor's clock.
	Time time.Time `json:"time"`
}

// String is the finding in a line.
func (f Finding) String() string {
	kind := "ALARM"
	if f.Notice {
		kind = "notice"
	}
	text := fmt.Sprintf("%s %s %s: %s: %s", f.Time.UTC().Format(time.RFC3339), kind, f.Code, f.Subject, f.Detail)
	if f.Proof != "" {
		text += " Proof: " + f.Proof
	}
	return text
}
