package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
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
