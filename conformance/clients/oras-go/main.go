// A client on oras-go v2 that does what its arguments say, for the tests of conformance/tests/it/clients:
//
//	hythe-oras-go login HOST
//	hythe-oras-go push  HOST/REPOSITORY:TAG FILE
//	hythe-oras-go pull  HOST/REPOSITORY:TAG FOLDER
//	hythe-oras-go copy  HOST/REPOSITORY:TAG HOST/REPOSITORY:TAG
//
// copy takes along what refers to the image, and what refers to that. User name and password come from ORAS_USERNAME and
// ORAS_PASSWORD, those of copy's destination from ORAS_TO_USERNAME and ORAS_TO_PASSWORD. push, pull and copy print the
// digest of the manifest. ORAS_TLS=1 speaks TLS.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	artifactType = "application/vnd.hythe.conformance.v1"
	layerType    = "application/vnd.hythe.conformance.layer.v1"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	credential := auth.Credential{Username: os.Getenv("ORAS_USERNAME"), Password: os.Getenv("ORAS_PASSWORD")}
	switch {
	case len(args) == 2 && args[0] == "login":
		registry, err := remote.NewRegistry(args[1])
		if err != nil {
			return err
		}
		registry.PlainHTTP = plain()
		registry.Client = &auth.Client{Credential: auth.StaticCredential(args[1], credential)}
		return registry.Ping(ctx)
	case len(args) == 3 && args[0] == "push":
		return push(ctx, args[1], args[2], credential)
	case len(args) == 3 && args[0] == "pull":
		return pull(ctx, args[1], args[2], credential)
	case len(args) == 3 && args[0] == "copy":
		to := auth.Credential{Username: os.Getenv("ORAS_TO_USERNAME"), Password: os.Getenv("ORAS_TO_PASSWORD")}
		return copyGraph(ctx, args[1], credential, args[2], to)
	}
	return errors.New("usage: login HOST | push REFERENCE FILE | pull REFERENCE FOLDER | copy REFERENCE REFERENCE")
}

func plain() bool { return os.Getenv("ORAS_TLS") == "" }

func repository(reference string, credential auth.Credential) (*remote.Repository, error) {
	target, err := remote.NewRepository(reference)
	if err != nil {
		return nil, err
	}
	target.PlainHTTP = plain()
	target.Client = &auth.Client{
		Cache:      auth.NewCache(),
		Credential: auth.StaticCredential(target.Reference.Registry, credential),
	}
	return target, nil
}

func push(ctx context.Context, reference, path string, credential auth.Credential) error {
	target, err := repository(reference, credential)
	if err != nil {
		return err
	}
	store, err := file.New(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer store.Close()
	layer, err := store.Add(ctx, filepath.Base(path), layerType, path)
	if err != nil {
		return err
	}
	manifest, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, artifactType,
		oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	if err != nil {
		return err
	}
	tag := target.Reference.Reference
	if err := store.Tag(ctx, manifest, tag); err != nil {
		return err
	}
	pushed, err := oras.Copy(ctx, store, tag, target, tag, oras.DefaultCopyOptions)
	if err != nil {
		return err
	}
	fmt.Println(pushed.Digest)
	return nil
}

func pull(ctx context.Context, reference, folder string, credential auth.Credential) error {
	target, err := repository(reference, credential)
	if err != nil {
		return err
	}
	store, err := file.New(folder)
	if err != nil {
		return err
	}
	defer store.Close()
	tag := target.Reference.Reference
	pulled, err := oras.Copy(ctx, target, tag, store, tag, oras.DefaultCopyOptions)
	if err != nil {
		return err
	}
	fmt.Println(pulled.Digest)
	return nil
}

func copyGraph(ctx context.Context, from string, reads auth.Credential, to string, writes auth.Credential) error {
	source, err := repository(from, reads)
	if err != nil {
		return err
	}
	target, err := repository(to, writes)
	if err != nil {
		return err
	}
	copied, err := oras.ExtendedCopy(ctx, source, source.Reference.Reference, target, target.Reference.Reference,
		oras.DefaultExtendedCopyOptions)
	if err != nil {
		return err
	}
	fmt.Println(copied.Digest)
	return nil
}
