package recorder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

const (
	someUID  = "00000000-0000-0000-0000-000000000000"
	someTime = "2026-01-01T00:00:00Z"
)

// Fixture returns the request as indented JSON in which everything is replaced that differs from run to run: UIDs,
// times, resource versions, the hash of the client's certificate, and the status, which controllers write meanwhile.
func (q Request) Fixture() ([]byte, error) {
	var request map[string]any
	decoder := json.NewDecoder(bytes.NewReader(q.Raw))
	decoder.UseNumber()
	if err := decoder.Decode(&request); err != nil {
		return nil, err
	}
	if user, ok := request["userInfo"].(map[string]any); ok {
		delete(user, "extra")
	}
	for _, name := range []string{"object", "oldObject"} {
		object, ok := request[name].(map[string]any)
		if !ok {
			continue
		}
		if _, ok := object["status"]; ok && request["subResource"] == nil {
			object["status"] = map[string]any{"availableReplicas": 0, "replicas": 0}
		}
		metadata, _ := object["metadata"].(map[string]any)
		entries, _ := metadata["managedFields"].([]any)
		entries = slices.DeleteFunc(entries, func(e any) bool { return e.(map[string]any)["subresource"] == "status" })
		// The server sorts them by time.
		slices.SortFunc(entries, func(a, b any) int { return strings.Compare(manager(a), manager(b)) })
		if entries != nil {
			metadata["managedFields"] = entries
		}
	}
	normalise(request)
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(request)
	return out.Bytes(), err
}

// CompareFixture holds the request against a file, or writes the file if update is set. It returns the difference.
func (q Request) CompareFixture(path string, update bool) (diff string, err error) {
	got, err := q.Fixture()
	if err != nil {
		return "", err
	}
	if update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		return "", os.WriteFile(path, got, 0o644)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")), nil
}

func manager(entry any) string {
	m := entry.(map[string]any)
	return fmt.Sprint(m["operation"], m["manager"], m["subresource"])
}

func normalise(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, field := range v {
			if _, ok := field.(string); ok {
				switch k {
				case "uid":
					v[k] = someUID
				case "resourceVersion":
					v[k] = "1"
				case "time", "creationTimestamp", "kubectl.kubernetes.io/restartedAt":
					v[k] = someTime
				}
			}
			normalise(field)
		}
	case []any:
		for _, elem := range v {
			normalise(elem)
		}
	}
}
