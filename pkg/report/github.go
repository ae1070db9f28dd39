package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
)

// writeGitHub writes the workflow commands that make GitHub Actions annotate a change. GitHub shows ten errors and ten
// warnings of a step, so what denies should come first.
func writeGitHub(w io.Writer, r Report, _ Options) error {
	var out bytes.Buffer
	for i := range r.Findings {
		f := &r.Findings[i]
		var properties []string
		// An annotation of no file in the repository is one of the whole run.
		if f.File != "" && f.File != Stdin {
			properties = append(properties, "file="+githubEscape(githubProperty, f.File), fmt.Sprintf("line=%d", max(1, f.Line)))
		}
		title := strings.TrimSpace(f.Code + " " + f.Title)
		properties = append(properties, "title="+githubEscape(githubProperty, title))
		text := f.Object + ": " + f.text()
		if fix := f.fix(); fix != "" {
			text += "\nfix: " + fix
		}
		if f.Exception != "" {
			text += "\nexception: " + f.Exception
		}
		command := cmp.Or(githubCommands[f.Severity], "notice")
		fmt.Fprintf(&out, "::%s %s::%s\n", command, strings.Join(properties, ","), githubEscape(githubData, text))
	}
	_, err := w.Write(out.Bytes())
	return err
}

var githubCommands = map[string]string{Deny: "error", Warn: "warning"}

// The escapes that the runner undoes. It knows no others.
var (
	githubData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// githubEscape writes a text into one line, in which a terminal finds nothing to obey either.
func githubEscape(escapes *strings.Replacer, text string) string {
	return visible(escapes.Replace(text))
}
