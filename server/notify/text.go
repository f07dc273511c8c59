package notify

import (
	"html"
	"net/url"
	"strings"
	"unicode"
)

// maxLine is the longest subject, in characters.
const maxLine = 200

// oneLine makes a text fit for one line of a header or a log.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxLine {
		s = string(runes[:maxLine-1]) + "…"
	}
	return s
}

// asHTML shows a text in the plainest HTML: the same words, and links that can be followed. It loads
// nothing from anywhere.
func asHTML(title, text string) string {
	var b strings.Builder
	b.WriteString(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>` + html.EscapeString(oneLine(title)) + `</title></head><body>`)
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		lines := strings.Split(strings.Trim(paragraph, "\n"), "\n")
		for i, line := range lines {
			lines[i] = html.EscapeString(line)
			if isLink(line) {
				lines[i] = `<a href="` + lines[i] + `">` + lines[i] + `</a>`
			}
		}
		if shown := strings.Join(lines, "<br>"); shown != "" {
			b.WriteString("\n<p>" + shown + "</p>")
		}
	}
	b.WriteString("\n</body></html>\n")
	return b.String()
}

// isLink tells whether a line is nothing but the address of a page.
func isLink(line string) bool {
	u, err := url.Parse(line)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && !strings.ContainsAny(line, " \t")
}
