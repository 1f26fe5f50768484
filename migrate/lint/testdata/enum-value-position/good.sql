-- +goose Up
alter type mood add value 'glad' after 'sad';
