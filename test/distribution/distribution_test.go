package distribution_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/test/distribution"
)

func TestKafkaHasWhatItsImageHas(t *testing.T) {
	for version, want := range map[string][]string{
		"4.3.1": {
			"kafka-acls.sh", "kafka-configs.sh", "kafka-console-consumer.sh", "kafka-console-producer.sh", "kafka-features.sh",
			"kafka-metadata-quorum.sh", "kafka-server-start.sh", "kafka-storage.sh", "kafka-topics.sh",
		},
		"3.9.2": {
			"kafka-acls.sh", "kafka-configs.sh", "kafka-console-consumer.sh", "kafka-console-producer.sh", "kafka-features.sh",
			"kafka-metadata-quorum.sh", "kafka-server-start.sh", "kafka-storage.sh", "kafka-topics.sh", "zookeeper-shell.sh",
		},
	} {
		t.Run(version, func(t *testing.T) {
			dir, err := distribution.Kafka(t.Context(), version, os.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			for _, script := range want {
				if _, err := exec.LookPath(filepath.Join(dir, "bin", script)); err != nil {
					t.Error(err)
				}
			}
			if got := run(t, filepath.Join(dir, "bin", "kafka-topics.sh"), "--version"); !strings.HasPrefix(got, version) {
				t.Errorf("kafka-topics.sh --version says %q", got)
			}
			if got := run(t, filepath.Join(dir, "bin", "kafka-storage.sh"), "random-uuid"); len(strings.TrimSpace(got)) != 22 {
				t.Errorf("kafka-storage.sh random-uuid says %q", got)
			}
		})
	}
}

func TestZooKeeperHasWhatItsImageHas(t *testing.T) {
	dir, err := distribution.ZooKeeper(t.Context(), "3.9.5", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, filepath.Join(dir, "bin", "zkServer.sh"), "version"); !strings.Contains(got, "3.9.5") {
		t.Errorf("zkServer.sh version says %q", got)
	}
	if got := run(t, filepath.Join(dir, "bin", "zkCli.sh"), "version"); !strings.Contains(got, "3.9.5") {
		t.Errorf("zkCli.sh version says %q", got)
	}
}

func TestJMXExporterIsAnAgent(t *testing.T) {
	dir, err := distribution.JMXExporter(t.Context(), distribution.JMXExporterVersion, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	jars, err := filepath.Glob(filepath.Join(dir, "jmx_prometheus_javaagent*.jar"))
	if err != nil || len(jars) != 1 {
		t.Errorf("want one jar, got %v, %v", jars, err)
	}
}

func TestWhatIsNoVersionIsRefused(t *testing.T) {
	for _, version := range []string{"", "4", "4.3", "4.3.x", "../../4.3.1", "4.3.1</version>"} {
		if dir, err := distribution.Kafka(t.Context(), version, nil); err == nil {
			t.Errorf("Kafka of version %q: %s", version, dir)
		}
	}
}

// run gives the script another folder for its logs: nothing may be left in the cache.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LOG_DIR="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s", filepath.Base(name), err, stderr.String())
	}
	return string(out)
}
