package bitbucket

import "strings"

// BareUUID normalises a UUID as Bitbucket writes it, in braces or without and
// in any case, to the bare lower-case form of 36 characters that the rest of
// the product stores. It reports false, and returns "", for anything else.
func BareUUID(s string) (string, bool) {
	if len(s) == 38 && s[0] == '{' && s[37] == '}' {
		s = s[1:37]
	}
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return "", false
		}
	}
	return strings.ToLower(s), true
}

// BracedUUID is the form that Bitbucket's paths, filters and bodies want:
// {xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}. A string that is not a UUID, a slug
// for example, is returned as it is.
func BracedUUID(s string) string {
	if bare, ok := BareUUID(s); ok {
		return "{" + bare + "}"
	}
	return s
}

// bareUUID is BareUUID for values out of Bitbucket's answers: what is not a
// UUID becomes "", so that no other spelling of an identity gets in.
func bareUUID(s string) string {
	bare, _ := BareUUID(s)
	return bare
}
