package bitbucketsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// hiddenFields is a member of a list item that the q parameter can see and the client cannot.
const hiddenFields = "\x00hidden"

// condition decides about one item of a list.
type condition func(object) bool

// filter keeps the items that a q expression of Bitbucket's query language accepts.
func filter(items []object, q string) ([]object, error) {
	tokens, err := tokenize(q)
	if err == nil {
		p := &queryParser{tokens: tokens}
		var cond condition
		if cond, err = p.or(); err == nil && len(p.tokens) == 0 {
			return slices.DeleteFunc(slices.Clone(items), func(o object) bool { return !cond(o) }), nil
		}
	}
	return nil, badRequest("Invalid query: " + q)
}

func tokenize(q string) ([]string, error) {
	var out []string
	for i := 0; i < len(q); {
		c := q[i]
		j := i + 1
		switch {
		case c == ' ':
			i++
			continue
		case c == '"':
			for j < len(q) && q[j] != '"' {
				if q[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(q) {
				return nil, fmt.Errorf("unterminated string")
			}
			j++
		case c == '(' || c == ')' || c == ',':
		case strings.IndexByte("=!~<>", c) >= 0:
			for j < len(q) && strings.IndexByte("=~", q[j]) >= 0 {
				j++
			}
		default:
			for j < len(q) && (unicode.IsLetter(rune(q[j])) || unicode.IsDigit(rune(q[j])) || strings.IndexByte("._-:+", q[j]) >= 0) {
				j++
			}
		}
		out = append(out, q[i:j])
		i = j
	}
	return out, nil
}

type queryParser struct{ tokens []string }

func (p *queryParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *queryParser) takes(word string) bool {
	if len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], word) {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *queryParser) or() (condition, error) {
	left, err := p.and()
	for err == nil && p.takes("OR") {
		var right condition
		l := left
		if right, err = p.and(); err == nil {
			left = func(o object) bool { return l(o) || right(o) }
		}
	}
	return left, err
}

func (p *queryParser) and() (condition, error) {
	left, err := p.comparison()
	for err == nil && p.takes("AND") {
		var right condition
		l := left
		if right, err = p.comparison(); err == nil {
			left = func(o object) bool { return l(o) && right(o) }
		}
	}
	return left, err
}

func (p *queryParser) comparison() (condition, error) {
	if p.takes("(") {
		inner, err := p.or()
		if err == nil && !p.takes(")") {
			err = fmt.Errorf("missing )")
		}
		return inner, err
	}
	field, op := p.next(), strings.ToUpper(p.next())
	if field == "" || !unicode.IsLetter(rune(field[0])) {
		return nil, fmt.Errorf("a field was expected")
	}
	if op == "IN" {
		var wanted []any
		if !p.takes("(") {
			return nil, fmt.Errorf("missing (")
		}
		for {
			v, err := literal(p.next())
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, v)
			if p.takes(")") {
				return func(o object) bool {
					return slices.ContainsFunc(lookup(o, field), func(v any) bool { return slices.Contains(wanted, v) })
				}, nil
			}
			if !p.takes(",") {
				return nil, fmt.Errorf("missing )")
			}
		}
	}
	wanted, err := literal(p.next())
	if err != nil {
		return nil, err
	}
	var test func(have any) bool
	switch op {
	case "=":
		test = func(have any) bool { return have == wanted }
	case "~":
		test = func(have any) bool { return containsFold(have, wanted) }
	case "<", "<=", ">", ">=":
		test = func(have any) bool {
			n := compare(have, wanted)
			return (n == 0 && len(op) == 2) || (n < 0 && op[0] == '<') || (n > 0 && op[0] == '>')
		}
	case "!=":
		return func(o object) bool { return !slices.Contains(lookup(o, field), wanted) }, nil
	case "!~":
		return func(o object) bool {
			return !slices.ContainsFunc(lookup(o, field), func(h any) bool { return containsFold(h, wanted) })
		}, nil
	default:
		return nil, fmt.Errorf("%q is no operator", op)
	}
	return func(o object) bool { return slices.ContainsFunc(lookup(o, field), test) }, nil
}

func literal(token string) (any, error) {
	switch strings.ToLower(token) {
	case "":
		return nil, fmt.Errorf("a value was expected")
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null":
		return nil, nil
	}
	if token[0] == '"' {
		return strings.ReplaceAll(token[1:len(token)-1], `\"`, `"`), nil
	}
	if n, err := strconv.Atoi(token); err == nil {
		return n, nil
	}
	return token, nil // a date
}

// lookup returns every value that a dotted path leads to; lists are walked item by item.
func lookup(v any, path string) []any {
	if list, ok := v.([]any); ok {
		var out []any
		for _, it := range list {
			out = append(out, lookup(it, path)...)
		}
		return out
	}
	if path == "" {
		return []any{v}
	}
	o, ok := v.(object)
	if !ok {
		return nil
	}
	if hidden, ok := o[hiddenFields].(object); ok {
		if x, ok := hidden[path]; ok {
			return []any{x}
		}
	}
	name, rest, _ := strings.Cut(path, ".")
	x, ok := o[name]
	if !ok {
		return nil
	}
	return lookup(x, rest)
}

func containsFold(have, wanted any) bool {
	h, ok1 := have.(string)
	w, ok2 := wanted.(string)
	return ok1 && ok2 && strings.Contains(strings.ToLower(h), strings.ToLower(w))
}

// compare orders numbers, strings and dates; permissions go by what they allow.
func compare(a, b any) int {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			return x - y
		}
	}
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	if permissionRank[x] > 0 && permissionRank[y] > 0 {
		return permissionRank[x] - permissionRank[y]
	}
	return strings.Compare(x, y)
}

func sortItems(items []object, by string) {
	field, descending := strings.CutPrefix(by, "-")
	key := func(o object) any {
		if v := lookup(o, field); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	slices.SortStableFunc(items, func(a, b object) int {
		n := compare(key(a), key(b))
		if descending {
			return -n
		}
		return n
	})
}

// selectFields applies the fields parameter: a list of dotted paths to keep, or to drop where they start with
// a minus. A plus changes nothing, since what it could add is handled where the item is rendered.
func selectFields(body any, fields string) any {
	var keep, drop [][]string
	for f := range strings.SplitSeq(fields, ",") {
		switch {
		case f == "" || f[0] == '+' || f[0] == ' ': // a plus arrives as a blank where it was not escaped
		case f[0] == '-':
			drop = append(drop, strings.Split(f[1:], "."))
		default:
			keep = append(keep, strings.Split(f, "."))
		}
	}
	if len(keep) > 0 {
		body = keepPaths(body, keep)
	}
	for _, path := range drop {
		body = dropPath(body, path)
	}
	return body
}

func keepPaths(v any, paths [][]string) any {
	switch x := v.(type) {
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = keepPaths(x[i], paths)
		}
		return out
	case object:
		below := map[string][][]string{}
		whole := map[string]bool{}
		for _, p := range paths {
			for name := range x {
				if p[0] != name && p[0] != "*" {
					continue
				}
				if len(p) == 1 || (len(p) == 2 && p[1] == "*") {
					whole[name] = true
				} else {
					below[name] = append(below[name], p[1:])
				}
			}
		}
		out := object{}
		for name, child := range x {
			if whole[name] {
				out[name] = child
			} else if below[name] != nil {
				out[name] = keepPaths(child, below[name])
			}
		}
		return out
	}
	return v
}

func dropPath(v any, path []string) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = dropPath(x[i], path)
		}
	case object:
		if len(path) == 1 {
			delete(x, path[0])
		} else if child, ok := x[path[0]]; ok {
			x[path[0]] = dropPath(child, path[1:])
		}
	}
	return v
}
