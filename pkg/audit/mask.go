package audit

import (
	"regexp"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// masked stands for a value that is not for everybody.
const masked = "***"

// minSecret is the shortest value that is masked: shorter ones are in every word.
const minSecret = 4

// assignment finds a password in a command line or a configuration file, as the value of a key that says so.
var assignment = regexp.MustCompile(`(?i)(?:password|passwd|passphrase|secret|credentials?|token)[\w.-]*\s*[=:]\s*("[^"]*"|'[^']*'|[^\s"',;]+)`)

// mask takes what looks like a password of the object's out of the messages. Metamorph's own policies repeat none, but
// anybody's may, and more people may read Events and reports than objects in every namespace.
func mask(obj map[string]any, findings []policy.Finding) {
	spec, _ := obj["spec"].(map[string]any)
	secrets := secretsIn(spec["template"], nil)
	if len(secrets) == 0 {
		return
	}
	// The longest first: of one that begins with another nothing may be left.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, s := range secrets {
		pairs = append(pairs, s, masked)
	}
	replace := strings.NewReplacer(pairs...)
	for i := range findings {
		f := &findings[i]
		f.Message, f.Fix = replace.Replace(f.Message), replace.Replace(f.Fix)
	}
}

// secretsIn collects the values in a document that look like passwords.
func secretsIn(v any, to []string) []string {
	switch x := v.(type) {
	case map[string]any:
		name, _ := x["name"].(string)
		if value, ok := x["value"].(string); ok && setting.LooksSecret(name) {
			to = addSecret(to, value)
		}
		for _, e := range x {
			to = secretsIn(e, to)
		}
	case []any:
		for _, e := range x {
			to = secretsIn(e, to)
		}
	case string:
		for line := range strings.Lines(x) {
			if !setting.LooksSecret(line) {
				continue // in a hundredth of the time of the expression
			}
			for _, found := range assignment.FindAllStringSubmatch(line, -1) {
				to = addSecret(to, strings.Trim(found[1], `"'`))
			}
		}
	}
	return to
}

// addSecret leaves out references (${dir:…}, $(VAR)), which are no secret, and what is too short to be one.
func addSecret(to []string, value string) []string {
	if len(value) < minSecret || strings.HasPrefix(value, "$") || value == "true" || value == "false" {
		return to
	}
	return append(to, value)
}
