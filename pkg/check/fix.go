package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// Change is one line that was written into a manifest, or could not be.
type Change struct {
	Where, File, Object string
	// Text is the line.
	Text string
}

// Fix writes the fixes of all findings into the documents, as the user would: annotations of the manifest.
func Fix(docs []manifest.Document, subjects []Subject) ([]manifest.Document, []Change, error) {
	out := slices.Clone(docs)
	var changes []Change
	for i := range subjects {
		s := &subjects[i]
		fixes := s.Fixes()
		delete(fixes, "replicas") // no annotation: a person decides what a node costs
		if len(fixes) == 0 {
			continue
		}
		annotations := make(map[string]string, len(fixes))
		for key, value := range fixes {
			if key == "config" {
				value = s.config(value)
			}
			annotations[setting.Prefix+key] = value
		}
		d, err := out[s.Document].Annotate(s.Item, annotations)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.Where, err)
		}
		out[s.Document] = d
		lines := make([]string, 0, len(annotations))
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			lines = append(lines, fmt.Sprintf("%s: %q", key, annotations[key]))
		}
		changes = append(changes, Change{Where: s.Where, File: d.File, Object: s.Name, Text: strings.Join(lines, ", ")})
	}
	return out, changes, nil
}

// config writes the lines of a fix into the user's own text, so that comments and the order of lines stay.
func (s *Subject) config(fix string) string {
	md, _ := s.Output.Source["metadata"].(map[string]any)
	notes, _ := md["annotations"].(map[string]any)
	written, _ := notes[setting.Prefix+"config"].(string)
	want, err := settings.ParseConfig(fix)
	if err != nil || written == "" {
		return fix
	}
	var out []string
	seen := map[string]bool{}
	for line := range strings.Lines(written) {
		text := strings.TrimRight(line, "\r\n")
		one, err := settings.ParseConfig(text)
		if err == nil && one != nil && len(one.Keys()) == 1 {
			key := one.Keys()[0]
			value, ok := want.Get(key)
			if !ok {
				continue // the fix has it no more
			}
			if had, _ := one.Get(key); had != value {
				text = key + "=" + value
			}
			seen[key] = true
		}
		out = append(out, text)
	}
	for _, key := range want.Keys() {
		if !seen[key] {
			value, _ := want.Get(key)
			out = append(out, key+"="+value)
		}
	}
	merged := strings.Join(out, "\n")
	if strings.HasSuffix(written, "\n") {
		merged += "\n"
	}
	if got, err := settings.ParseConfig(merged); err != nil || got == nil || got.String() != want.String() {
		return fix // continued lines, or another order
	}
	return merged
}
