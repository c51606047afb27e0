-- One transaction of the demo: a row, committed.
INSERT INTO demo (client, note) VALUES (:client_id, 'a row worth waiting for');
