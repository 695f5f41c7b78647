// SPDX-License-Identifier: Apache-2.0

// Cosignatures of witnesses (C2SP tlog-cosignature, Ed25519) by the specification's text: sumdb/note
// knows the log's own kind of signature alone, and passes over the others.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

type vkeys []string

func (v *vkeys) String() string     { return strings.Join(*v, " ") }
func (v *vkeys) Set(s string) error { *v = append(*v, s); return nil }

// NAME+HEX(key id)+BASE64(0x04 | public key)
func parseWitness(vkey string) (name string, id []byte, public ed25519.PublicKey, err error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return "", nil, nil, errors.New("a witness's key is NAME+KEYID+KEY")
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 33 || typed[0] != 4 {
		return "", nil, nil, errors.New("the witness's key is not an Ed25519 cosigner's")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return "", nil, nil, errors.New("the witness's key id is not its key's")
	}
	return parts[0], sum[:4], typed[1:], nil
}

// The text, and the time of the witness's cosignature of it.
func checkCosignature(data []byte, vkey string) (string, error) {
	name, id, public, err := parseWitness(vkey)
	if err != nil {
		return "", err
	}
	text, lines, found := strings.Cut(string(data), "\n\n")
	if !found {
		return "", errors.New("it is not a note")
	}
	text += "\n"
	for _, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		words := strings.Split(line, " ")
		if len(words) != 3 || words[0] != "\u2014" {
			return "", errors.New("a signature line is malformed")
		}
		raw, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil || len(raw) < 5 {
			return "", errors.New("a signature is malformed")
		}
		if words[1] != name || !bytes.Equal(raw[:4], id) {
			continue
		}
		if len(raw) != 4+8+ed25519.SignatureSize {
			return "", fmt.Errorf("the cosignature of %s is malformed", name)
		}
		seconds := binary.BigEndian.Uint64(raw[4:12])
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", seconds, text)
		if !ed25519.Verify(public, []byte(message), raw[12:]) {
			return "", fmt.Errorf("the cosignature of %s does not verify", name)
		}
		if time.Unix(int64(seconds), 0).After(time.Now().Add(5 * time.Minute)) {
			return "", fmt.Errorf("the cosignature of %s is of the future", name)
		}
		return fmt.Sprintf("%s at %d", name, seconds), nil
	}
	return "", fmt.Errorf("%s has not cosigned it", name)
}

// The cosigned checkpoint: signed by the log and by every witness, and the beginning of the tree that
// the tiles were checked against.
func verifyCosigned(tree tlog.Tree, reader tlog.HashReader) error {
	data, err := get("cosigned")
	if err != nil {
		return err
	}
	seen, err := openCheckpoint(data)
	if err != nil {
		return err
	}
	if seen.N > tree.N {
		return errors.New("it is of a larger tree")
	}
	root, err := tlog.TreeHash(seen.N, reader)
	if err != nil {
		return err
	}
	if root != seen.Hash {
		return errors.New("the log does not go on from what the witnesses saw")
	}
	for _, vkey := range witnesses {
		said, err := checkCosignature(data, vkey)
		if err != nil {
			return err
		}
		fmt.Printf("cosigned: %d entries by %s\n", seen.N, said)
	}
	return nil
}
