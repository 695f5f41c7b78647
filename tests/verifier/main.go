// SPDX-License-Identifier: Apache-2.0

// An auditor who trusts nothing of the daemon but its verifier key, in another language and with
// other people's code (golang.org/x/mod/sumdb): reads a copy of /v1/audit (checkpoint, tile/...,
// N/proof, consistency) from a folder, and recomputes everything; or certificates of erasures with
// their proofs, as files. Exit status 1 and a line for whatever does not hold.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var folder = flag.String("dir", "", "the copy of /v1/audit")
var vkey = flag.String("vkey", "", "the log's verifier key")
var every = flag.Int64("every", 1, "ask for the inclusion proof of every n-th entry")
var oldSize = flag.Int64("old-size", 0, "size of a checkpoint that was seen earlier")
var certificates = flag.Bool("certificates", false, "verify pairs of files: certificate, proof ...")
var oldRoot = flag.String("old-root", "", "its root, in base64")
var witnesses vkeys // of those who must have cosigned the file "cosigned"

func get(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(*folder, path))
}

func getJSON(path string, out any) error {
	body, err := get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// The signed text of a C2SP tlog-checkpoint: origin, size, root.
func openCheckpoint(data []byte) (tlog.Tree, error) {
	var tree tlog.Tree
	verifier, err := note.NewVerifier(*vkey)
	if err != nil {
		return tree, err
	}
	n, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tree, errors.New("the checkpoint is not three lines under the key's name")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

func checkpoint() (tlog.Tree, error) {
	data, err := get("checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(data)
}

// Reads C2SP tiles; tlog's own paths name the height too.
type tiles struct{}

func (tiles) Height() int { return 8 }

func (tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range list {
		data, err := get("tile/" + strings.TrimPrefix(t.Path(), "tile/8/"))
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// Every entry from the entry tiles, in order.
func entries(size int64, each func(index int64, entry []byte) error) error {
	for n := int64(0); n*256 < size; n++ {
		width := size - n*256
		if width > 256 {
			width = 256
		}
		t := tlog.Tile{H: 8, L: 0, N: n, W: int(width)}
		data, err := get("tile/entries/" + strings.TrimPrefix(t.Path(), "tile/8/0/"))
		if err != nil {
			return err
		}
		for i := int64(0); i < width; i++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("entry tile %d is cut short", n)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			if err := each(n*256+i, data[2:end]); err != nil {
				return err
			}
			data = data[end:]
		}
		if len(data) != 0 {
			return fmt.Errorf("entry tile %d is too long", n)
		}
	}
	return nil
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, text := range texts {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func checkInclusion(tree tlog.Tree, index int64, leaf tlog.Hash) error {
	var answer struct{ Hashes []string }
	if err := getJSON(fmt.Sprintf("%d/proof", index), &answer); err != nil {
		return err
	}
	proof, err := hashes(answer.Hashes)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(tlog.RecordProof(proof), tree.N, tree.Hash, index, leaf)
}

func checkConsistency(tree tlog.Tree) error {
	var answer struct{ Hashes []string }
	root, err := tlog.ParseHash(*oldRoot)
	if err != nil {
		return err
	}
	if err := getJSON("consistency", &answer); err != nil {
		return err
	}
	proof, err := hashes(answer.Hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(tlog.TreeProof(proof), tree.N, tree.Hash, *oldSize, root)
}

func verify() error {
	tree, err := checkpoint()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	reader := tlog.TileHashReader(tree, tiles{})
	var frontier []tlog.Hash // the stored hashes, as x/mod numbers them
	proofs := 0
	err = entries(tree.N, func(index int64, entry []byte) error {
		leaf := tlog.RecordHash(entry)
		added, err := tlog.StoredHashesForRecordHash(index, leaf, tlog.HashReaderFunc(
			func(indexes []int64) ([]tlog.Hash, error) {
				var out []tlog.Hash
				for _, i := range indexes {
					out = append(out, frontier[i])
				}
				return out, nil
			}))
		if err != nil {
			return err
		}
		frontier = append(frontier, added...)
		tiled, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return fmt.Errorf("hash tiles at entry %d: %w", index, err)
		}
		if tiled[0] != leaf {
			return fmt.Errorf("entry %d is not the one that the hash tiles commit to", index)
		}
		if index%*every != 0 {
			return nil
		}
		proofs++
		if err := checkInclusion(tree, index, leaf); err != nil {
			return fmt.Errorf("inclusion proof of entry %d: %w", index, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(tree.N, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, frontier[i])
		}
		return out, nil
	}))
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the entries do not make the signed root")
	}
	if *oldSize > 0 {
		if err := checkConsistency(tree); err != nil {
			return fmt.Errorf("consistency with the tree of %d entries: %w", *oldSize, err)
		}
	}
	if len(witnesses) > 0 {
		if err := verifyCosigned(tree, reader); err != nil {
			return fmt.Errorf("cosigned checkpoint: %w", err)
		}
	}
	fmt.Printf("ok: %d entries make the signed root %s; %d inclusion proofs hold\n", tree.N,
		base64.StdEncoding.EncodeToString(tree.Hash[:]), proofs)
	return nil
}

func verifyCertificates() error {
	files := flag.Args()
	if len(files) == 0 || len(files)%2 != 0 {
		return errors.New("certificates and proofs come in pairs")
	}
	for i := 0; i < len(files); i += 2 {
		if err := verifyCertificate(files[i], files[i+1]); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(files[i]), err)
		}
	}
	return nil
}

func main() {
	flag.Var(&witnesses, "witness", "verifier key of a witness (may be given again)")
	flag.Parse()
	run := verify
	if *certificates {
		run = verifyCertificates
	}
	if err := run(); err != nil {
		fmt.Println("does not hold:", err)
		os.Exit(1)
	}
}
