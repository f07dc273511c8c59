package approval

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// Limits of a policy document. They keep a tally, a statement and a screen
// small; none is meant to be reached.
const (
	MaxPolicyBytes  = 64 << 10 // bytes of a document
	MaxRules        = 50       // rules of a policy
	MaxBranches     = 50       // patterns of a rule
	MaxPattern      = 255      // bytes of a pattern
	MaxRequirements = 10       // requirements of a rule
	MaxAccounts     = 100      // accounts of a requirement
	MaxAccountID    = 128      // bytes of an account id
	MaxQuorum       = 50       // people
	MaxName         = 80       // characters of a name
	MaxTemplate     = 1000     // characters of a commit message template
	MaxCosignatures = 16       // witnesses
	MaxModels       = 64       // authenticator models of a rule

	MinExpiry = time.Minute
	MaxExpiry = 90 * 24 * time.Hour
)

// Code is the stable, machine-readable name of a [Problem].
type Code string

// The problems that a policy can have.
const (
	CodeMalformed      Code = "malformed"            // not a JSON document that can be read
	CodeTooLarge       Code = "too_large"            // the document is over its limit
	CodeUnknownField   Code = "unknown_field"        // a field that does not exist, or a null
	CodeFormat         Code = "format"               // the format is not [Format]
	CodeCount          Code = "count"                // too few or too many of something
	CodeName           Code = "name"                 // empty, too long, or with characters that cannot be shown
	CodeDuplicate      Code = "duplicate"            // the same thing twice
	CodePattern        Code = "pattern"              // a glob pattern that cannot be read
	CodeNoPattern      Code = "no_pattern"           // a rule that can match no branch
	CodeQuorum         Code = "quorum"               // a quorum below one or too large
	CodeUnreachable    Code = "quorum_unreachable"   // a quorum of more people than there are
	CodeApprovers      Code = "approvers"            // nobody, or both everyone and named accounts
	CodeAccount        Code = "account"              // an account id that cannot be one
	CodeUnknownAccount Code = "unknown_account"      // an account that is not in the workspace
	CodeExpiry         Code = "expiry"               // an expiry outside its limits
	CodeKeys           Code = "keys"                 // a demand on keys that asks for nothing
	CodeModel          Code = "model"                // not the AAGUID of a model, or out of order
	CodeUnknownModel   Code = "unknown_model"        // a model that the server cannot prove
	CodeStrategy       Code = "strategy"             // not a merge strategy of Bitbucket
	CodeNotOffered     Code = "strategy_not_offered" // a merge strategy that the branch does not offer
	CodeTemplate       Code = "template"             // a commit message template that cannot be filled in
	CodeCosignatures   Code = "cosignatures"         // a number of cosignatures below none or too large
	CodeFewWitnesses   Code = "too_few_witnesses"    // cosignatures of more witnesses than the server has
)

// Problem is one reason for which a policy is refused.
type Problem struct {
	// Code is stable.
	Code Code `json:"code"`
	// Path leads to the place, such as "rules[0].requirements[1].quorum".
	Path string `json:"path"`
	// Message says in one sentence what is wrong; safe to show.
	Message string `json:"message"`
}

// PolicyError is a refusal with at least one problem.
type PolicyError struct {
	Problems []Problem
}

// Error returns the first problem's message and the number of the others.
func (e *PolicyError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Message
	}
	return fmt.Sprintf("%s (and %d more)", e.Problems[0].Message, len(e.Problems)-1)
}

func refuse(p Problem) error { return &PolicyError{Problems: []Problem{p}} }

// Population is what a policy is measured against when it is saved. Every list
// is taken at its word: an empty one means that there are none.
type Population struct {
	// Writers are the account ids with write permission on the repository.
	Writers []string
	// Accounts are the account ids of the workspace's members, from which
	// named approvers are chosen. Writers always belong to them.
	Accounts []string
	// Strategies are the merge strategies that the gated branches offer.
	Strategies []string
	// Witnesses is how many witnesses the server asks to cosign its log.
	Witnesses int
	// Models are the AAGUIDs of the authenticator models that can be proved.
	Models []string
}

// Validate returns everything that is wrong with the policy, and nothing when
// it can be saved: first the document's own problems, then what does not fit
// the population.
func (p Policy) Validate(pop Population) []Problem {
	problems := p.check()
	for i, rule := range p.Rules {
		at := "rules[" + itoa(i) + "]"
		for j, q := range rule.Requirements {
			path := at + ".requirements[" + itoa(j) + "]"
			if len(q.check(path)) == 0 { // else there is nothing to measure yet
				problems = append(problems, q.measure(pop, path)...)
			}
		}
		if o := rule.Override; o != nil {
			if path := at + ".override"; len(o.requirement().check(path)) == 0 {
				problems = append(problems, o.requirement().measure(pop, path)...)
			}
		}
		if k := rule.Keys; k != nil && len(k.check(at+".keys")) == 0 {
			for j, model := range k.Models {
				if !slices.Contains(pop.Models, model) {
					problems = append(problems, Problem{
						CodeUnknownModel, at + ".keys.models[" + itoa(j) + "]",
						"This server's snapshot of the FIDO metadata has no acceptable model " + model + ".",
					})
				}
			}
		}
		if m := rule.AutoMerge; m != nil && m.Strategy != "" && !slices.Contains(pop.Strategies, m.Strategy) &&
			slices.Contains(Strategies(), m.Strategy) {
			problems = append(problems, Problem{
				CodeNotOffered, at + ".autoMerge.strategy",
				fmt.Sprintf("The destination branch does not offer the merge strategy %q.", m.Strategy),
			})
		}
		if rule.Cosignatures > pop.Witnesses && rule.Cosignatures <= MaxCosignatures {
			problems = append(problems, Problem{
				CodeFewWitnesses, at + ".cosignatures",
				fmt.Sprintf("The rule asks for the cosignatures of %d witnesses, but this server has %d.", rule.Cosignatures, pop.Witnesses),
			})
		}
	}
	return problems
}

// measure compares a requirement with the people who are there.
func (q Requirement) measure(pop Population, at string) (problems []Problem) {
	available := distinct(pop.Writers)
	who := "people with write permission"
	if !q.Approvers.Everyone {
		who = "named approvers"
		available = 0
		for k, account := range q.Approvers.Accounts {
			if slices.Contains(pop.Accounts, account) || slices.Contains(pop.Writers, account) {
				available++
				continue
			}
			problems = append(problems, Problem{
				CodeUnknownAccount, at + ".approvers.accounts[" + itoa(k) + "]",
				"This account is not a member of the workspace.",
			})
		}
	}
	if q.Quorum > available {
		problems = append(problems, Problem{
			CodeUnreachable, at + ".quorum",
			fmt.Sprintf("%s, but there are only %d %s.", q.ask(), available, who),
		})
	}
	return problems
}

// check finds what is wrong with the document itself.
func (p Policy) check() (problems []Problem) {
	add := func(code Code, path, format string, args ...any) {
		problems = append(problems, Problem{code, path, fmt.Sprintf(format, args...)})
	}
	if p.Format != Format {
		add(CodeFormat, "format", "The format must be %q.", Format)
	}
	if len(p.Rules) < 1 || len(p.Rules) > MaxRules {
		add(CodeCount, "rules", "A policy has 1 to %d rules.", MaxRules)
	}
	names := map[string]bool{}
	for i, rule := range p.Rules {
		at := "rules[" + itoa(i) + "]"
		if names[rule.Name] {
			add(CodeDuplicate, at+".name", "Two rules are called %q.", rule.Name)
		}
		names[rule.Name] = true
		problems = append(problems, rule.check(at)...)
	}
	return problems
}

func (r Rule) check(at string) (problems []Problem) {
	add := func(code Code, path, format string, args ...any) {
		problems = append(problems, Problem{code, at + path, fmt.Sprintf(format, args...)})
	}
	if !goodName(r.Name) {
		add(CodeName, ".name", "A rule's name has 1 to %d visible characters.", MaxName)
	}
	if len(r.Branches) < 1 || len(r.Branches) > MaxBranches {
		add(CodeCount, ".branches", "A rule has 1 to %d branch patterns.", MaxBranches)
	}
	positive := false
	for i, pattern := range r.Branches {
		path := ".branches[" + itoa(i) + "]"
		glob, exclude := strings.CutPrefix(pattern, "!")
		positive = positive || !exclude
		if slices.Index(r.Branches, pattern) != i {
			add(CodeDuplicate, path, "The pattern %q is there twice.", pattern)
		}
		switch {
		case glob == "" || len(pattern) > MaxPattern || !visible(pattern) || !doublestar.ValidatePattern(glob):
			add(CodePattern, path, "%q is not a branch pattern.", clip(pattern, MaxName))
		case strings.Contains(pattern, " "): // https://git-scm.com/docs/git-check-ref-format
			add(CodePattern, path, "%q has a space, and no branch's name has one: each pattern stands by itself.", clip(pattern, MaxName))
		}
	}
	if len(r.Branches) > 0 && !positive {
		add(CodeNoPattern, ".branches", "A rule needs at least one pattern that does not begin with '!'.")
	}
	if len(r.Requirements) < 1 || len(r.Requirements) > MaxRequirements {
		add(CodeCount, ".requirements", "A rule has 1 to %d requirements.", MaxRequirements)
	}
	names := map[string]bool{}
	for i, q := range r.Requirements {
		path := ".requirements[" + itoa(i) + "]"
		if names[q.Name] {
			add(CodeDuplicate, path+".name", "Two requirements are called %q.", q.Name)
		}
		names[q.Name] = true
		problems = append(problems, q.check(at+path)...)
	}
	if r.ExpiresAfterSeconds < int64(MinExpiry/time.Second) || r.ExpiresAfterSeconds > int64(MaxExpiry/time.Second) {
		add(CodeExpiry, ".expiresAfterSeconds", "A request expires after 1 minute to 90 days.")
	}
	if r.Keys != nil {
		problems = append(problems, r.Keys.check(at+".keys")...)
	}
	if r.Override != nil {
		problems = append(problems, r.Override.requirement().check(at+".override")...)
	}
	if r.AutoMerge != nil {
		problems = append(problems, r.AutoMerge.check(at+".autoMerge")...)
	}
	if r.Cosignatures < 0 || r.Cosignatures > MaxCosignatures {
		add(CodeCosignatures, ".cosignatures", "A rule asks for the cosignatures of 0 to %d witnesses.", MaxCosignatures)
	}
	return problems
}

// modelForm is an AAGUID as a UUID in lower case.
var modelForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// IsModel reports whether s names an authenticator model: an AAGUID in lower case,
// which is not the one of zeros alone that those have who do not tell.
func IsModel(s string) bool { return modelForm.MatchString(s) && strings.Trim(s, "0-") != "" }

func (k KeyDemand) check(at string) (problems []Problem) {
	add := func(code Code, path, format string, args ...any) {
		problems = append(problems, Problem{code, at + path, fmt.Sprintf(format, args...)})
	}
	if !k.Countersigned && len(k.Models) == 0 {
		add(CodeKeys, "", "A rule that asks something of keys asks for countersigned ones, or for certain models.")
	}
	if len(k.Models) > MaxModels {
		add(CodeCount, ".models", "A rule names at most %d models.", MaxModels)
	}
	for i, model := range k.Models {
		path := ".models[" + itoa(i) + "]"
		switch {
		case !IsModel(model):
			add(CodeModel, path, "%q is not the AAGUID of a model: a UUID in lower case.", clip(model, MaxName))
		case slices.Index(k.Models, model) != i:
			add(CodeDuplicate, path, "This model is named twice.")
		case i > 0 && model < k.Models[i-1]:
			add(CodeModel, path, "Models are named in ascending order.")
		}
	}
	return problems
}

func (q Requirement) check(at string) (problems []Problem) {
	add := func(code Code, path, format string, args ...any) {
		problems = append(problems, Problem{code, at + path, fmt.Sprintf(format, args...)})
	}
	if !goodName(q.Name) {
		add(CodeName, ".name", "A requirement's name has 1 to %d visible characters.", MaxName)
	}
	if q.Quorum < 1 || q.Quorum > MaxQuorum {
		add(CodeQuorum, ".quorum", "A quorum is 1 to %d people.", MaxQuorum)
	}
	accounts := q.Approvers.Accounts
	switch {
	case q.Approvers.Everyone && len(accounts) > 0:
		add(CodeApprovers, ".approvers", "Approvers are either everyone with write permission or named accounts, not both.")
	case !q.Approvers.Everyone && len(accounts) == 0:
		add(CodeApprovers, ".approvers", "%s needs somebody who can give it.", sentenceName(q.Name))
	case len(accounts) > MaxAccounts:
		add(CodeCount, ".approvers.accounts", "A requirement names at most %d accounts.", MaxAccounts)
	}
	for i, account := range accounts {
		path := ".approvers.accounts[" + itoa(i) + "]"
		if account == "" || len(account) > MaxAccountID || !visible(account) || strings.ContainsRune(account, ' ') {
			add(CodeAccount, path, "%q is not a Bitbucket account id.", clip(account, MaxName))
		}
		if slices.Index(accounts, account) != i {
			add(CodeDuplicate, path, "This approver is named twice.")
		}
	}
	if !q.Approvers.Everyone && q.Quorum > len(accounts) && len(accounts) > 0 && q.Quorum <= MaxQuorum {
		add(CodeUnreachable, ".quorum", "%s, but names only %d approvers.", q.ask(), len(accounts))
	}
	return problems
}

// ask says in a problem what the requirement asks for.
func (q Requirement) ask() string {
	what := "approvals"
	if q.Name == overrideName {
		what = "people"
	}
	return fmt.Sprintf("%s asks for %d %s", sentenceName(q.Name), q.Quorum, what)
}

// goodName reports whether a name can be shown on one line and told apart.
func goodName(s string) bool {
	return strings.TrimSpace(s) == s && s != "" && utf8.RuneCountInString(s) <= MaxName && visible(s)
}

// visible reports whether s is well-formed text without control, formatting,
// private or unassigned characters: nothing that hides or reorders its neighbours.
func visible(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}

func distinct(list []string) int {
	seen := map[string]bool{}
	for _, s := range list {
		seen[s] = true
	}
	return len(seen)
}

func sentenceName(name string) string {
	if name == "" {
		return "A requirement"
	}
	return clip(name, MaxName)
}

func itoa(i int) string { return strconv.Itoa(i) }
