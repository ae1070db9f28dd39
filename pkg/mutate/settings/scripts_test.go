package settings_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// TestScripts lets bash read the scripts that go into the pods, without running them.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, role := range setting.Roles {
		file := setting.Prefix + string(role) + ".sh"
		v, _ := render(t, role, map[string]string{}).Get(leaf.Join("spec", "template", "metadata", "annotations", file))
		script, _ := v.(string)
		if !strings.Contains(script, "\nprepare() {") || !strings.Contains(script, "\nwait_for_name() {") || strings.Contains(script, "\r") {
			t.Errorf("%s lacks parts, or has carriage returns", file)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
