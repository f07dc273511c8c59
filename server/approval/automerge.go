package approval

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// AutoMerge says how an approved pull request is merged.
type AutoMerge struct {
	// Strategy is one of [Strategies], or empty for the destination branch's default.
	Strategy string `json:"strategy"`
	// CloseSourceBranch deletes the source branch after the merge.
	CloseSourceBranch bool `json:"closeSourceBranch"`
	// MessageTemplate is the commit message, at most [MaxTemplate] characters;
	// empty leaves the message to Bitbucket. The placeholders are those of
	// [MergeMessage]; a literal brace is written twice.
	MessageTemplate string `json:"messageTemplate"`
}

// Strategies returns the merge strategies that Bitbucket Cloud knows.
func Strategies() []string {
	return []string{
		"merge_commit", "squash", "fast_forward", "squash_fast_forward", "rebase_fast_forward", "rebase_merge",
	}
}

// MergeMessage holds what the placeholders of a commit message template stand for.
type MergeMessage struct {
	Title       string   // {title}: the pull request's title
	Number      int64    // {number}: its number, without '#'
	Author      string   // {author}: its author's display name
	Source      string   // {source}: the source branch
	Destination string   // {destination}: the destination branch
	Head        string   // {head}: the full hash of the approved commit
	Approvers   []string // {approvers}: the display names of those who approved
	URL         string   // {url}: the pull request's page
}

func (m MergeMessage) value(placeholder string) (string, bool) {
	switch placeholder {
	case "title":
		return m.Title, true
	case "number":
		return strconv.FormatInt(m.Number, 10), true
	case "author":
		return m.Author, true
	case "source":
		return m.Source, true
	case "destination":
		return m.Destination, true
	case "head":
		return m.Head, true
	case "approvers":
		return listed(m.Approvers, "and"), true
	case "url":
		return m.URL, true
	}
	return "", false
}

// Message fills in the template. Values are inserted as they are and never
// read as a template again. The result is empty when the template is.
func (a AutoMerge) Message(m MergeMessage) (string, error) {
	return expand(a.MessageTemplate, m)
}

func (a AutoMerge) check(at string) (problems []Problem) {
	if a.Strategy != "" && !slices.Contains(Strategies(), a.Strategy) {
		problems = append(problems, Problem{
			CodeStrategy, at + ".strategy",
			fmt.Sprintf("%q is not a merge strategy; Bitbucket knows %s.", clip(a.Strategy, MaxName), listed(Strategies(), "and")),
		})
	}
	if utf8.RuneCountInString(a.MessageTemplate) > MaxTemplate || !utf8.ValidString(a.MessageTemplate) {
		problems = append(problems, Problem{
			CodeTemplate, at + ".messageTemplate",
			fmt.Sprintf("A commit message template has at most %d characters.", MaxTemplate),
		})
	} else if _, err := expand(a.MessageTemplate, MergeMessage{}); err != nil {
		problems = append(problems, Problem{CodeTemplate, at + ".messageTemplate", "The commit message template cannot be filled in: " + err.Error() + "."})
	}
	return problems
}

func expand(template string, m MergeMessage) (string, error) {
	var out strings.Builder
	for rest := template; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			out.WriteString(rest)
			break
		}
		out.WriteString(rest[:i])
		brace := rest[i]
		rest = rest[i+1:]
		if rest != "" && rest[0] == brace {
			out.WriteByte(brace)
			rest = rest[1:]
			continue
		}
		end := strings.IndexAny(rest, "{}")
		if brace == '}' || end < 0 || rest[end] != '}' {
			return "", fmt.Errorf("a single brace; write it twice to mean a brace")
		}
		value, ok := m.value(rest[:end])
		if !ok {
			return "", fmt.Errorf("no placeholder {%s}", clip(rest[:end], MaxName))
		}
		out.WriteString(value)
		rest = rest[end+1:]
	}
	return out.String(), nil
}
