package approval

// MaxDepth is how many objects and lists a document may have inside one another. No
// document needs as many, and no reader runs out of stack by so few.
const MaxDepth = 64

// TooDeep reports whether JSON text has more than [MaxDepth] objects and lists inside
// one another. Of text that is not JSON it looks at what comes before the fault, at
// least.
func TooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
