package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/test/cluster/image"
	"github.com/metamorph-k8s/metamorph/test/cluster/node"
)

// sets are one of each kind of set that the suite applies, by their defaults: they tell which images it takes.
const sets = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: kraft, annotations: {metamorph.dev/role: kafka}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: brokers, annotations: {metamorph.dev/role: kafka, metamorph.dev/zookeeper: "true"}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ensemble, annotations: {metamorph.dev/role: zookeeper}}
`

// references are the images of the sets, as they are rendered.
func references() ([]string, error) {
	docs, err := manifest.Parse("sets", []byte(sets))
	if err != nil {
		return nil, err
	}
	_, outcomes, err := manifest.Expand(docs, manifest.Options{})
	if err != nil {
		return nil, err
	}
	var all []string
	for _, o := range outcomes {
		if o.Refused != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, o.Refused)
		}
		all = append(all, o.Output.Settings["image"].Text)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// maker makes images, and keeps what takes long in the user's cache.
func (s *session) maker() *image.Maker {
	return &image.Maker{Root: s.root, Cache: filepath.Join(s.caches, "images"), Progress: os.Stderr}
}

// images makes everything that the node has to have. It cannot pull.
func (s *session) images(ctx context.Context) ([]string, error) {
	m := s.maker()
	pause, err := m.Pause(ctx, node.PauseImage)
	if err != nil {
		return nil, err
	}
	ours, err := m.Metamorph(ctx, metamorphImage, s.version(ctx))
	if err != nil {
		return nil, err
	}
	paths := []string{pause, ours}
	refs, err := references()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		parsed, err := reference.ParseDockerRef(ref) // the name that the node knows it by
		if err != nil {
			return nil, err
		}
		tagged, ok := parsed.(reference.NamedTagged)
		if !ok {
			return nil, errors.New(ref + " has no tag")
		}
		stand := m.Kafka
		switch {
		case strings.HasSuffix(tagged.Name(), "zookeeper"):
			stand = m.ZooKeeper
		case !strings.HasSuffix(tagged.Name(), "kafka"):
			return nil, errors.New(ref + " is neither Kafka's nor ZooKeeper's")
		}
		path, err := stand(ctx, tagged.String(), tagged.Tag())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}
