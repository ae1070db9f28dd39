// Package policies is Metamorph's library of policies: Rego, one folder a policy, embedded in the binary.
package policies

import (
	"embed"
	"io/fs"
	"path"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

//go:embed */*.rego
var files embed.FS

// Library is the folder of the package that every policy may import.
const Library = "lib"

// Source returns the built-in policies.
func Source() *policy.Source { return must(Read(files, "policies")) }

// Libraries returns the Rego packages that policies may import.
func Libraries() *policy.Source { return must(ReadLibraries(files, "policies")) }

// Loader compiles policies as Metamorph does, the built-in ones and others.
func Loader() *policy.Loader {
	roles := make([]string, len(setting.Roles))
	for i, r := range setting.Roles {
		roles[i] = string(r)
	}
	return &policy.Loader{Libraries: Libraries(), Schema: policy.InputSchema(), Kinds: []string{"StatefulSet"}, Roles: roles}
}

func must(src *policy.Source, err error) *policy.Source {
	if err != nil {
		panic(err) // of files that are in the binary
	}
	return src
}

// Read returns the policies in a copy of this folder that lies at a path, without their tests.
func Read(fsys fs.FS, at string) (*policy.Source, error) {
	return read(fsys, at, func(dir string) bool { return dir != Library })
}

// ReadLibraries returns the Rego packages in such a copy that policies may import.
func ReadLibraries(fsys fs.FS, at string) (*policy.Source, error) {
	return read(fsys, at, func(dir string) bool { return dir == Library })
}

func read(fsys fs.FS, at string, in func(dir string) bool) (*policy.Source, error) {
	src := &policy.Source{Name: "builtin", Builtin: true, Files: map[string]string{}}
	paths, err := fs.Glob(fsys, "*/*.rego")
	if err != nil {
		return nil, err
	}
	for _, file := range paths {
		if !in(path.Dir(file)) || strings.HasSuffix(file, "_test.rego") {
			continue
		}
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		src.Files[path.Join(at, file)] = string(text)
	}
	return src, nil
}
