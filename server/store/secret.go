package store

import "log/slog"

// Secret is text that may be used but not shown: every way of printing or logging it gives
// "[redacted]". Convert it with string(s) where it is handed over, and nowhere else.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps a secret inside a larger value out of logs and answers.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
