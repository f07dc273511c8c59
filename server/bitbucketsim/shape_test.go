package bitbucketsim_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func splitPath(path string) []string { return strings.Split(strings.Trim(path, "/"), "/") }

// shape is what recordings of one kind have in common: for every place where they hold an object, which
// members it had and of which types. A place is a dotted path in which [] stands for any item of a list and
// {type} follows an object that names its type, since an owner that is a team looks otherwise than a user.
type shape struct {
	kind    string
	objects map[string]int             // how many objects there were at a place
	members map[string]map[string]int  // how many of them had a member
	types   map[string]map[string]bool // types seen, by place and member
	typed   *shape                     // objects of a type wherever they were recorded; nil in itself
	always  map[string][]string        // what consistent answers, once all is there
}

func newShape(kind string) *shape {
	return &shape{kind: kind, objects: map[string]int{}, members: map[string]map[string]int{}, types: map[string]map[string]bool{}}
}

// placeOf is where an object counts: its path and its type.
func placeOf(path string, o map[string]any) string {
	if name, ok := o["type"].(string); ok {
		return path + "{" + name + "}"
	}
	return path
}

// add takes a recording in.
func (s *shape) add(path string, v any) {
	switch x := v.(type) {
	case map[string]any:
		place := placeOf(path, x)
		s.objects[place]++
		if s.members[place] == nil {
			s.members[place] = map[string]int{}
		}
		for k, child := range x {
			s.members[place][k]++
			at := place + "." + k
			if s.types[at] == nil {
				s.types[at] = map[string]bool{}
			}
			s.types[at][jsonType(child)] = true
			s.add(at, child)
		}
	case []any:
		for _, it := range x {
			s.add(path+".[]", it)
		}
	}
}

// addTyped takes in every object that names its type, each as a root of its own.
func (s *shape) addTyped(v any) {
	switch x := v.(type) {
	case map[string]any:
		if _, ok := x["type"].(string); ok {
			s.add("", x)
		}
		for _, child := range x {
			s.addTyped(child)
		}
	case []any:
		for _, it := range x {
			s.addTyped(it)
		}
	}
}

// complete is called when all is there: the exceptions are looked up for each member once, and not for each comparison.
func (s *shape) complete() {
	s.always = map[string][]string{}
	for place, members := range s.members {
		for k, n := range members {
			if n == s.objects[place] && !excepted(absent, s.kind+" "+place+"."+k) {
				s.always[place] = append(s.always[place], k)
			}
		}
		slices.Sort(s.always[place])
	}
}

// consistent lists the members that every object at a place had, without those that are excepted.
func (s *shape) consistent(place string) []string { return s.always[place] }

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "object"
	case []any:
		return "list"
	case string:
		return "string"
	case bool:
		return "boolean"
	default:
		return "number"
	}
}

// report is what a check found out.
type report struct {
	faults  []string
	reached map[string]map[string]bool // places, and the types of their members there
}

// check compares a value with the shape. A member that the recordings consistently have must be there, and of
// a type that they have.
func (s *shape) check(path string, v any, r *report) {
	switch x := v.(type) {
	case map[string]any:
		place := placeOf(path, x)
		if s.objects[place] == 0 && s.typed != nil && s.recordedAt(path) {
			// Recorded here with other types only: what is recorded of this type elsewhere decides.
			if s.typed.objects[placeOf("", x)] == 0 {
				r.faults = append(r.faults, place+" is of a type that no recording has")
				return
			}
			s.typed.check("", x, r)
			return
		}
		if s.objects[place] == 0 {
			return
		}
		if r.reached[place] == nil {
			r.reached[place] = map[string]bool{}
		}
		for _, k := range s.consistent(place) {
			child, ok := x[k]
			at := place + "." + k
			if !ok {
				r.faults = append(r.faults, at+" is missing")
				continue
			}
			r.reached[place][k+" "+jsonType(child)] = true
			types := s.types[at]
			// Where the recordings know a member only as null, they say nothing about its type.
			if types[jsonType(child)] || (len(types) == 1 && types["null"]) ||
				(child == nil && excepted(null, s.kind+" "+at)) {
				continue
			}
			r.faults = append(r.faults, fmt.Sprintf("%s is %s, recorded as %v", at, jsonType(child), slices.Sorted(maps.Keys(types))))
		}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			s.check(place+"."+k, x[k], r)
		}
	case []any:
		for _, it := range x {
			s.check(path+".[]", it, r)
		}
	}
}

func (s *shape) recordedAt(path string) bool {
	for place := range s.objects {
		if rest, ok := strings.CutPrefix(place, path); ok && strings.HasPrefix(rest, "{") && strings.IndexByte(rest, '}') == len(rest)-1 {
			return true
		}
	}
	return false
}

// descend follows a dotted path; [] spreads a list.
func descend(v any, path string) []any {
	if path == "" {
		return []any{v}
	}
	name, rest, _ := strings.Cut(path, ".")
	switch x := v.(type) {
	case map[string]any:
		if child, ok := x[name]; ok {
			return descend(child, rest)
		}
	case []any:
		if name == "[]" {
			var out []any
			for _, it := range x {
				out = append(out, descend(it, rest)...)
			}
			return out
		}
	}
	return nil
}

// objectsAt finds the objects of a value that count at a place.
func objectsAt(path string, v any, place string) []map[string]any {
	var out []map[string]any
	switch x := v.(type) {
	case map[string]any:
		here := placeOf(path, x)
		if here == place {
			out = append(out, x)
		}
		for k, child := range x {
			if strings.HasPrefix(place, here+"."+k) {
				out = append(out, objectsAt(here+"."+k, child, place)...)
			}
		}
	case []any:
		for _, it := range x {
			out = append(out, objectsAt(path+".[]", it, place)...)
		}
	}
	return out
}

// allowance is what an exception allows a member to be.
type allowance int

const (
	absent allowance = iota
	null
)

// exceptions are the only places where the Sim may differ from what its recordings consistently have. The
// pattern is matched with "<kind> <place>.<member>". An exception is proved by another recording that differs in
// the same way, or states its source.
var exceptions = []struct {
	allow          allowance
	pattern        *regexp.Regexp
	proof, proofAt string // a recording and the path of the null in it
	source         string
}{
	{
		allow: absent, pattern: regexp.MustCompile(`^(pull|repo|branch|commit|status).*\{user\}\.username$`),
		source: "recorded before 2019, when Bitbucket took usernames out of user objects; nickname and account_id took their place",
	},
	{
		allow: absent, pattern: regexp.MustCompile(`^[a-z -]+ \.next$`),
		source: "the recordings are first pages of several; the OpenAPI document says that the last page has no next",
	},
	{
		allow: absent, pattern: regexp.MustCompile(`^error of a request body \{error\}\.error\.fields\.links\.avatar$`),
		source: "names the member that the recorded request lacked",
	},
	{
		allow: absent, pattern: regexp.MustCompile(`^repo:updated .*\.(project|changes\.(website|language))$`),
		source: "the documentation's sample shows every change at once, in an object that no recording of a real event has",
	},
	{
		allow: null, pattern: regexp.MustCompile(`\{repository\}\.website$`),
		proof: source + "pullrequest_created.json", proofAt: "repository.website",
	},
	{
		allow: null, pattern: regexp.MustCompile(`\{participant\}\.participated_on$`),
		proof: danger + "bitbucket_cloud_pr.json", proofAt: "participants.[].participated_on",
	},
	{
		allow: null, pattern: regexp.MustCompile(`\{participant\}\.state$`),
		proof: drone + "pr_comment_created.json", proofAt: "pullrequest.participants.[].state",
	},
	{
		allow: null, pattern: regexp.MustCompile(`^(repo:commit_status|statuses).*\{build\}\.refname$`),
		proof: drone + "status.json", proofAt: "refname",
	},
	{
		allow: null, pattern: regexp.MustCompile(`^pull request.*\.source\.(repository|commit)$`),
		source: "github.com/jenkinsci/bitbucket-branch-source-plugin, pull request 322: null once the fork is deleted",
	},
	{
		allow: null, pattern: regexp.MustCompile(`^diffstat .*\{diffstat\}\.(old|new)$`),
		source: "the side on which a file does not exist: github.com/faros-ai/airbyte-connectors pull request 1699; the recordings hold modified and renamed files, and one that was edited by hand",
	},
}

func excepted(allow allowance, what string) bool {
	for _, e := range exceptions {
		if e.allow == allow && e.pattern.MatchString(what) {
			return true
		}
	}
	return false
}

func TestExceptionsAreProved(t *testing.T) {
	t.Parallel()
	recordings(t)
	for _, e := range exceptions {
		if (e.proof == "") == (e.source == "") {
			t.Errorf("%s needs a proof or a source, and not both", e.pattern)
		}
		if e.proof != "" && !slices.Contains(descend(recording(t, e.proof), e.proofAt), nil) {
			t.Errorf("%s has no null at %s", e.proof, e.proofAt)
		}
	}
}

// recorded returns the shape of a kind's recordings.
func (k kind) recorded(t *testing.T) *shape {
	t.Helper()
	s := newShape(k.name)
	for _, f := range k.files {
		found := descend(recording(t, f), k.within)
		if len(found) == 0 {
			t.Fatalf("%s has nothing at %q", f, k.within)
		}
		for _, v := range found {
			s.add("", v)
		}
	}
	s.complete()
	return s
}

// ours collects the Sim's answers or events of this kind.
func (k kind) ours(st *story) []any {
	var all []any
	if k.mine == nil {
		all = st.events[k.name]
	} else {
		for _, x := range st.exchanges {
			if k.mine(x) {
				all = append(all, x.reply.json)
			}
		}
	}
	var out []any
	for _, v := range all {
		if k.only == nil || k.only(v) {
			out = append(out, descend(v, k.mineWithin)...)
		}
	}
	return out
}

// TestAnswersHaveTheShapeOfRecordings compares every kind of answer and event with its recordings, and then
// removes each member that they consistently have, one at a time, to see that the comparison would notice.
func TestAnswersHaveTheShapeOfRecordings(t *testing.T) {
	t.Parallel()
	recordings(t)
	st := play(t)
	typed := newShape("typed")
	for _, k := range kinds() {
		for _, f := range k.files {
			typed.addTyped(recording(t, f))
		}
	}
	typed.complete()
	for i, k := range kinds() {
		t.Run(fmt.Sprintf("%s %d", k.name, i), func(t *testing.T) {
			t.Parallel()
			s, mine := k.recorded(t), clone(t, k.ours(st)) // cloned, since members are removed below
			s.typed = typed
			if len(mine) == 0 {
				t.Fatal("the story has nothing of this kind")
			}
			r := &report{reached: map[string]map[string]bool{}}
			for _, v := range mine {
				s.check("", v, r)
			}
			slices.Sort(r.faults)
			for _, f := range slices.Compact(r.faults) {
				t.Error(f)
			}
			s.checkReach(t, r)
			removed := 0
			for place := range r.reached {
				for _, member := range s.consistent(place) {
					if path, _, ok := cutType(place); ok && member == "type" && s.objects[path] > 0 {
						continue // recorded here without a type as well
					}
					removed++
					if !s.noticesRemoval(mine, place, member) {
						t.Errorf("removing %s.%s goes unnoticed", place, member)
					}
				}
			}
			if removed == 0 {
				t.Error("nothing was removed")
			}
		})
	}
}

// cutType takes the type off the end of a place.
func cutType(place string) (path, name string, ok bool) {
	i := strings.LastIndexByte(place, '{')
	if i < 0 || !strings.HasSuffix(place, "}") {
		return place, "", false
	}
	return place[:i], place[i+1 : len(place)-1], true
}

// checkReach fails where recordings hold an object that the story never shows, so that nothing was compared.
func (s *shape) checkReach(t *testing.T, r *report) {
	t.Helper()
	for place, seen := range r.reached {
		for _, member := range s.consistent(place) {
			if s.types[place+"."+member]["object"] && !seen[member+" object"] {
				t.Errorf("%s.%s is an object in a recording and never in the story", place, member)
			}
		}
	}
}

func clone(t *testing.T, values []any) []any {
	t.Helper()
	raw, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var out []any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// noticesRemoval takes one member out of the first object that has it, checks, and puts it back.
func (s *shape) noticesRemoval(values []any, place, member string) bool {
	for _, v := range values {
		for _, o := range objectsAt("", v, place) {
			was, ok := o[member]
			if !ok {
				continue
			}
			delete(o, member)
			r := &report{reached: map[string]map[string]bool{}}
			s.check("", v, r)
			o[member] = was
			if member == "type" {
				return len(r.faults) > 0 // the place itself has another name without its type
			}
			return slices.Contains(r.faults, place+"."+member+" is missing")
		}
	}
	return false
}
