package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// maxRSS is the budget of the memory that the webhook takes at rest, in KiB. More than half of it is the program itself, read
// from the file and shared; OPA and the compiled policies take some 20 MiB of the rest and of that.
const maxRSS = 72 << 10

// restingNamespaces is how many namespaces the measurement's cluster has.
const restingNamespaces = 500

// TestRestingMemory starts the real program with caches of a middling cluster, waits until it is ready and asks the
// kernel.
func TestRestingMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "metamorph")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "github.com/metamorph-k8s/metamorph/cmd/webhook")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	api := &fakeAPI{namespaces: map[string]object{"kube-system": namespace("kube-system", "u", nil)}}
	for i := range restingNamespaces {
		name := fmt.Sprintf("ns-%d", i)
		api.namespaces[name] = namespace(name, name, object{"other": strings.Repeat("x", 1000)})
	}
	api.start(t)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: \"" + api.URL + "\"}}]\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ca := filepath.Join(dir, "ca.crt")
	cmd := exec.Command(program, "serve", "--self-signed", "--ca-out="+ca, "--bind-address=127.0.0.1", "--port=0", "--health-address=127.0.0.1:0", "--kubeconfig="+kubeconfig, "--drain-delay=0s")
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	r := &running{}
	for lines := bufio.NewScanner(stdout); r.plain == "" && lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "webhook "); ok {
			r.webhook = strings.TrimSuffix(url, "/mutate")
		}
		if url, ok := strings.CutPrefix(lines.Text(), "health "); ok {
			r.plain = strings.TrimSuffix(url, "/readyz")
		}
	}
	r.waitReady(t)
	rss := resident(t, cmd.Process.Pid, fmt.Sprintf("at rest with %d namespaces", restingNamespaces))
	if rss == 0 || rss > maxRSS {
		t.Errorf("%d KiB are resident, the budget is %d", rss, maxRSS)
	}
	r.trust(t, ca)
	for range 100 {
		r.mustAdmit(t, "ns-1", nil, "-Xmx")
	}
	resident(t, cmd.Process.Pid, "after 100 expansions")

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, log.String())
	}
}

// resident returns the memory of a process that is in RAM, in KiB, and logs what it is made of.
func resident(t *testing.T, pid int, when string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^(VmRSS|RssAnon|RssFile|VmHWM):\s+([0-9]+) kB$`).FindAllStringSubmatch(string(status), -1) {
		figures[m[1]], _ = strconv.Atoi(m[2])
	}
	t.Logf("%s, KiB: %v", when, figures)
	return figures["VmRSS"]
}
