package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/metamorph-k8s/metamorph/test/filelock"
)

const (
	etcd                  = "etcd"
	kubeAPIServer         = "kube-apiserver"
	kubeControllerManager = "kube-controller-manager"
	kubectl               = "kubectl"
	kubeScheduler         = "kube-scheduler"
	kubeProxy             = "kube-proxy"
	kubelet               = "kubelet"
	coreDNS               = "coredns"

	// assetsVariable names a directory of ready-made binaries; the name is that of controller-runtime's envtest.
	assetsVariable = "KUBEBUILDER_ASSETS"
	modulePath     = "github.com/metamorph-k8s/metamorph"
)

// binary says what a binary is built from: a main package that the module in a directory of test holds or has as a tool.
type binary struct{ module, pkg string }

var binaries = map[string]binary{
	etcd:                  {"controlplane", "go.etcd.io/etcd/server/v3"},
	kubeAPIServer:         {"controlplane", "k8s.io/kubernetes/cmd/kube-apiserver"},
	kubeControllerManager: {"controlplane", "k8s.io/kubernetes/cmd/kube-controller-manager"},
	kubectl:               {"controlplane", "k8s.io/kubernetes/cmd/kubectl"},
	kubeScheduler:         {"controlplane", "k8s.io/kubernetes/cmd/kube-scheduler"},
	kubeProxy:             {"controlplane", "k8s.io/kubernetes/cmd/kube-proxy"},
	kubelet:               {"controlplane", "k8s.io/kubernetes/cmd/kubelet"},
	coreDNS:               {"coredns", modulePath + "/test/coredns"},
}

var (
	// ControlPlane names what the tests without nodes need.
	ControlPlane = []string{etcd, kubeAPIServer, kubeControllerManager, kubectl}
	// Node names what a cluster with nodes needs besides.
	Node = []string{kubeScheduler, kubeProxy, kubelet, coreDNS}
)

// Binaries returns the path of each named binary (those of the control plane if none is named), and builds those that are
// missing, telling progress of it. Building for the first time takes minutes; processes that want the same binaries at the
// same time wait for the one that builds.
func Binaries(ctx context.Context, progress io.Writer, names ...string) (map[string]string, error) {
	if progress == nil {
		progress = io.Discard
	}
	if len(names) == 0 {
		names = ControlPlane
	}
	found := map[string]string{}
	if dir := os.Getenv(assetsVariable); dir != "" {
		for _, name := range names {
			path, err := filepath.Abs(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			switch _, err := os.Stat(path); {
			case err == nil:
				found[name] = path
			case slices.Contains(ofEnvtest, name) || !errors.Is(err, fs.ErrNotExist):
				// setup-envtest has nothing else; all else is a mistake in the variable.
				return nil, fmt.Errorf("%s=%s: %w", assetsVariable, dir, err)
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return found[name] != "" })
	if len(missing) == 0 {
		return found, nil
	}
	modules := map[string][]string{}
	for _, name := range missing {
		module := binaries[name].module
		if module == "" {
			return nil, fmt.Errorf("it is not known what %s is built from", name)
		}
		modules[module] = append(modules[module], name)
	}
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		b, err := newBuild(progress, module)
		if err != nil {
			return nil, err
		}
		if err := b.ensure(ctx, modules[module]); err != nil {
			return nil, err
		}
		for _, name := range modules[module] {
			found[name] = b.path(name)
		}
	}
	return found, nil
}

// ofEnvtest is what setup-envtest puts in a directory.
var ofEnvtest = []string{etcd, kubeAPIServer, kubectl}

// versions find in a go.mod which version of what a module builds.
var versions = map[string]*regexp.Regexp{
	"controlplane": regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes (v\S+)`),
	"coredns":      regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/coredns/coredns (v\S+)`),
}

// build makes binaries from the module in source and keeps them in cache.
type build struct {
	progress io.Writer
	name     string // that is told: the module's
	source   string
	cache    string
	version  string
}

func newBuild(progress io.Writer, module string) (*build, error) {
	source, err := moduleDir(module)
	if err != nil {
		return nil, err
	}
	b := &build{progress: progress, source: source, name: module}
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return nil, err
	}
	m := versions[module].FindSubmatch(mod)
	if m == nil {
		return nil, fmt.Errorf("%s requires nothing that matches %s", filepath.Join(source, "go.mod"), versions[module])
	}
	b.version = string(m[1])
	sources, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	for _, path := range append([]string{filepath.Join(source, "go.sum")}, sources...) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		hash.Write(text)
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	// Everything that a binary depends on, so that one in the cache is never out of date.
	key := strings.Join([]string{b.version, hex.EncodeToString(hash.Sum(nil)[:5]), strings.Fields(runtime.Version())[0]}, "-")
	b.cache = filepath.Join(caches, "metamorph", module, key)
	return b, nil
}

// moduleDir finds a module in test of this repository, seen from the working directory: a test runs in the directory of
// its package, a demonstration in the root.
func moduleDir(module string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && regexp.MustCompile(`(?m)^module `+regexp.QuoteMeta(modulePath)+`$`).Match(mod) {
			return filepath.Join(at, "test", module), nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside the source of %s, which the control plane is built from; "+
				"set %s to a directory that holds etcd, kube-apiserver and kubectl", dir, modulePath, assetsVariable)
		}
	}
}

func (b *build) path(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(b.cache, name)
}

// ensure builds the named binaries that are not in the cache.
func (b *build) ensure(ctx context.Context, names []string) error {
	absent := func() []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			_, err := os.Stat(b.path(name))
			return err == nil
		})
	}
	if len(absent()) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return err
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(b.cache, ".lock"), func() {
		fmt.Fprintln(b.progress, b.name+": another process is building it, waiting")
	})
	if err != nil {
		return fmt.Errorf("waiting for another process to build %s: %w", b.name, err)
	}
	defer unlock()
	// Somebody else may have built them while we waited.
	if names := absent(); len(names) > 0 {
		return b.build(ctx, names)
	}
	return nil
}

// build compiles into a directory of its own and moves what is complete to its place.
func (b *build) build(ctx context.Context, names []string) error {
	temp, err := os.MkdirTemp(b.cache, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	var paths []string
	for _, name := range names {
		paths = append(paths, binaries[name].pkg)
	}
	began := time.Now()
	fmt.Fprintf(b.progress, "%s: building %s %s, once (some minutes)\n", b.name, strings.Join(names, ", "), b.version)
	total, err := b.stale(ctx, paths)
	if err != nil {
		return err
	}
	if err := b.compile(ctx, temp, paths, total); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(temp, builtName(binaries[name].pkg)), b.path(name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(b.progress, "%s: built in %s\n", b.name, time.Since(began).Round(time.Second))
	return nil
}

// builtName is the name that go build gives to the binary of a main package.
func builtName(pkg string) string {
	dir, last := filepath.Split(pkg)
	if regexp.MustCompile(`^v[0-9]+$`).MatchString(last) {
		last = filepath.Base(dir)
	}
	if runtime.GOOS == "windows" {
		last += ".exe"
	}
	return last
}

// stale counts the packages that have to be compiled or linked. It downloads the modules if need be.
func (b *build) stale(ctx context.Context, paths []string) (int, error) {
	var out, report bytes.Buffer
	cmd := b.command(ctx, append([]string{"list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"}, paths...)...)
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("listing the packages of %s (go list in %s): %w\n%s", b.name, b.source, err, lastLines(report.String()))
	}
	return len(strings.Fields(out.String())), nil
}

func (b *build) compile(ctx context.Context, out string, paths []string, total int) error {
	cmd := b.command(ctx, append([]string{"build", "-v", "-ldflags", b.ldflags(), "-o", out + string(filepath.Separator)}, paths...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("building %s: %w", b.name, err)
	}
	// With -v, go build names each package on a line of its own as it gets to it. Anything else is a complaint.
	bar := newBar(b.progress, b.name, total)
	var complaints strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if line := lines.Text(); strings.ContainsAny(line, " #:") {
			fmt.Fprintln(&complaints, line)
		} else {
			bar.step()
		}
	}
	bar.end()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("building %s: %w", b.name, context.Cause(ctx))
		}
		return fmt.Errorf("building %s (go build in %s): %w\n%s", b.name, b.source, err, lastLines(complaints.String()))
	}
	return nil
}

// ldflags stamp the version: a server that says v0.0.0 of itself is refused by some clients.
func (b *build) ldflags() string {
	const pkg = "k8s.io/component-base/version."
	flags := []string{"-s", "-w", "-X", pkg + "gitVersion=" + b.version, "-X", pkg + "gitTreeState=clean"}
	if parts := strings.SplitN(strings.TrimPrefix(b.version, "v"), ".", 3); len(parts) == 3 {
		flags = append(flags, "-X", pkg+"gitMajor="+parts[0], "-X", pkg+"gitMinor="+parts[1])
	}
	return strings.Join(flags, " ")
}

func (b *build) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	// A workspace or flags of the caller's are meant for another module.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	return cmd
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
