package evidence

import (
	"encoding/json"
	"strings"
)

// Kind is what a file says that it is.
type Kind string

// The kinds of files that verifiers are given.
const (
	KindBundle  Kind = "bundle"
	KindReceipt Kind = "receipt"
	KindAnchors Kind = "anchors"
)

// KindOf tells what a file says that it is, by its format in whatever version; ""
// where it says nothing of that. It is not checked whether the file is one.
func KindOf(data []byte) Kind {
	var said struct{ Format string }
	if json.Unmarshal(data, &said) != nil {
		return ""
	}
	for kind, format := range map[Kind]string{KindBundle: BundleFormat, KindReceipt: ReceiptFormat, KindAnchors: AnchorsFormat} {
		if family(said.Format) == family(format) {
			return kind
		}
	}
	return ""
}

// family is a format without its version.
func family(format string) string {
	name, _, _ := strings.Cut(format, "/")
	return name
}
